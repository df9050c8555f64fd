/* The tape: operations that wait, noted in C.
 *
 * Recording an operation in Python costs as much as computing some hundred thousand elements. What
 * programs mostly do, elementwise operations on arrays of one shape and dtype, is noted here
 * instead: a cell then holds a Sketch, which names its slot and its operands. Python never sees a
 * sketch in the place of a value: whoever asks a cell for its value has all sketches made nodes
 * first (`flush`). Only who wants the values themselves (`settled`) has them computed straight from the
 * sketch, by the kernel that the same operations took before.
 *
 * What may be noted is decided here and only narrower than by face/waiting.py: everything else is
 * handed to Python, as are operations while options say otherwise or anything is on a device.
 */

enum { MOST_OPERANDS = 3, LONGEST_TAPE = 60 }; /* MOST_NODES of face/waiting.py */

typedef struct Sketch {
    PyObject_HEAD
    PyObject *operands[MOST_OPERANDS]; /* numpy.ndarray, Sketch, or a number */
    PyObject *like;  /* an array of the result's shape */
    PyObject *modes; /* what is to happen on floating-point errors, as it was */
    PyObject *node;  /* once Python has made one of it */
    PyObject *value; /* once it was computed */
    Cell *cell;      /* who shows it, borrowed; NULL when nobody does any more */
    struct Sketch *before, *after; /* the others that are shown */
    int slot, nin, type;
    int count;       /* sketches below it, itself included; more where they are shared, up to a limit */
    unsigned mark;   /* the last walk that came by */
    unsigned short site;
} Sketch;

static PyTypeObject SketchType;
#define IS_SKETCH(o) (Py_TYPE(o) == &SketchType)

/* The type number of the result by slot and type number of the operands, -1 where Python decides. */
static signed char sketched[SLOTS][TYPES];
static Sketch *shown_first = NULL, *shown_last = NULL;
static int pinned = 0;              /* whether memory that the program let go of is kept by a sketch */
static int tape_closed = 0;         /* > 0: options say what may wait */
static int is_taping = 0;           /* whether anything is noted at all */
static npy_intp pinned_bytes = 0;   /* from which size on memory is worth that question */
static npy_intp most_bytes = 0;     /* of a result: a larger one is allocated at once */
static PyObject *flush_hook = NULL, *run_hook = NULL, *notice_hook = NULL;
static PyObject *foreign_roots = NULL, *lent_roots = NULL; /* by id: memory that others can see */
/* What says that warnings may wait: NumPy's modes and Python's filters, as they were when Python last
 * looked at them. */
static PyObject *modes_variable = NULL, *modes_seen = NULL, *modes_found = NULL;
static PyObject *warnings_dict = NULL, *filters_seen = NULL, *first_filter = NULL;
static Py_ssize_t filters_count = 0;
static PyObject *filters_name = NULL, *worker_name = NULL;

#define ANY_SHOWN (shown_count != 0)

/* Whether a value is an array that shows a sketch. */
static inline int
shows_sketch(PyObject *o)
{
    return IS_CELL(o) && ((Cell *)o)->value != NULL && IS_SKETCH(((Cell *)o)->value);
}

static void
unlink_sketch(Sketch *s)
{
    if (s->cell == NULL) {
        return;
    }
    s->cell = NULL;
    *(s->before ? &s->before->after : &shown_first) = s->after;
    *(s->after ? &s->after->before : &shown_last) = s->before;
    s->before = s->after = NULL;
    shown_count--;
}

static void
link_sketch(Sketch *s, Cell *cell)
{
    s->cell = cell;
    s->before = shown_last;
    *(shown_last ? &shown_last->after : &shown_first) = s;
    shown_last = s;
    shown_count++;
}

/* Whether modes and filters are as when Python last found that warnings may wait. */
static int
is_as_noticed(void)
{
    PyObject *now = NULL;
    if (modes_found == NULL || PyContextVar_Get(modes_variable, NULL, &now) < 0) {
        PyErr_Clear();
        return 0;
    }
    int same = now == modes_seen;
    Py_XDECREF(now);
    if (!same) {
        return 0;
    }
    PyObject *filters = PyDict_GetItemWithError(warnings_dict, filters_name);
    if (filters == NULL || filters != filters_seen || !PyList_CheckExact(filters) ||
        PyList_GET_SIZE(filters) != filters_count ||
        (filters_count && PyList_GET_ITEM(filters, 0) != first_filter)) {
        return 0;
    }
    return PyDict_Contains(PyImport_GetModuleDict(), worker_name) == 0;
}

/* Whether a warning may come later than its operation. */
static int
is_patient(void)
{
    if (is_as_noticed()) {
        return 1;
    }
    PyObject *done = PyObject_CallNoArgs(notice_hook);
    if (done == NULL) {
        PyErr_WriteUnraisable(notice_hook);
        return 0;
    }
    Py_DECREF(done);
    return is_as_noticed();
}

/* Whether the memory of an array is the program's alone and stays where it is. */
static int
is_private(PyArrayObject *x)
{
    PyObject *base;
    while ((base = PyArray_BASE(x)) != NULL) {
        if (!PyArray_CheckExact(base)) {
            return 0;
        }
        x = (PyArrayObject *)base;
    }
    if (!PyArray_CHKFLAGS(x, NPY_ARRAY_OWNDATA)) {
        return 0;
    }
    PyObject *key = PyLong_FromVoidPtr(x);
    int found = key == NULL ? -1 : PyDict_Contains(foreign_roots, key);
    if (found == 0) {
        found = PyDict_Contains(lent_roots, key);
    }
    Py_XDECREF(key);
    if (found < 0) {
        PyErr_Clear();
    }
    return found == 0;
}

static inline int
is_same_shape(PyObject *a, PyObject *b)
{
    PyArrayObject *x = (PyArrayObject *)a, *y = (PyArrayObject *)b;
    return x == y || (PyArray_NDIM(x) == PyArray_NDIM(y) &&
                      PyArray_CompareLists(PyArray_DIMS(x), PyArray_DIMS(y), PyArray_NDIM(x)));
}

/* Whether a number can be an operand beside arrays of a type without NumPy refusing it. */
static int
is_number_for(PyObject *o, int type)
{
    if (PyFloat_CheckExact(o)) {
        double x = PyFloat_AS_DOUBLE(o);
        return type == NPY_DOUBLE || (type == NPY_FLOAT && (x != x || x - x != 0 || fabs(x) < 3e38));
    }
    if (PyLong_CheckExact(o)) {
        int overflow;
        long long x = PyLong_AsLongLongAndOverflow(o, &overflow);
        long long most = type == NPY_DOUBLE ? 1ll << 53 : type == NPY_FLOAT ? 1ll << 24 : 1ll << 31;
        return !overflow && -most < x && x < most &&
               (type == NPY_DOUBLE || type == NPY_FLOAT || type == NPY_INT64);
    }
    return (type == NPY_DOUBLE && PyArray_IsScalar(o, Double) && !PyFloat_CheckExact(o)) ||
           (type == NPY_FLOAT && PyArray_IsScalar(o, Float));
}

static int flush(void);
static int compute(PyObject *sketch);

static unsigned walks = 0;

/* How many sketches there are below one that this walk has not come by yet. */
static int
count_sketches(PyObject *o)
{
    Sketch *s = (Sketch *)o;
    if (o == NULL || !IS_SKETCH(o) || s->value != NULL || s->mark == walks) {
        return 0;
    }
    s->mark = walks;
    int count = 1;
    for (int i = 0; i < s->nin; i++) {
        count += count_sketches(s->operands[i]);
    }
    return count;
}

/* Bytes of an element of a type that is noted. */
static inline npy_intp
item_size(int type)
{
    switch (type) {
    case NPY_BOOL: return 1;
    case NPY_INT:
    case NPY_FLOAT: return 4;
    case NPY_LONG: return sizeof(long);
    default: return 8;
    }
}

/* Have the operands that are sketches computed, which have grown too long; -1 with an error. */
static int
compute_operands(PyObject *const *given, int nin)
{
    for (int i = 0; i < nin; i++) {
        if (shows_sketch(given[i]) && compute(((Cell *)given[i])->value) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A cell that shows the operation, NULL without an error where it is for others to run. */
static PyObject *
sketch(int slot, PyObject *const *given, int nin, int site)
{
    if (!is_taping || closed || tape_closed || ANY_PLACED || nin > MOST_OPERANDS) {
        return NULL;
    }
    if (pinned) { /* face/pinned.py decides what is to be done */
        (void)flush();
        return NULL;
    }
    /* First of all: it may run Python, and what is borrowed below may be gone then. */
    if (!is_patient() || closed || tape_closed || ANY_PLACED) {
        return NULL;
    }
    PyObject *operands[MOST_OPERANDS], *like = NULL;
    int type = -1, count = 1;
    for (int i = 0; i < nin; i++) {
        PyObject *o = given[i], *own = NULL;
        int its = -1;
        operands[i] = o;
        if (!IS_CELL(o)) {
            continue;
        }
        o = ((Cell *)o)->value;
        if (o != NULL && IS_SKETCH(o) && ((Sketch *)o)->value != NULL) {
            o = ((Sketch *)o)->value;
        }
        if (o == NULL) {
            return NULL;
        }
        if (IS_SKETCH(o)) {
            its = ((Sketch *)o)->type;
            own = ((Sketch *)o)->like;
            /* Once computed it would be so small that nobody asks who reads it before a write. */
            if (PyArray_SIZE((PyArrayObject *)own) * item_size(its) <= limits[S_FORWARD][0]) {
                return NULL;
            }
            count += ((Sketch *)o)->count;
        }
        else if (PyArray_CheckExact(o)) {
            PyArrayObject *x = (PyArrayObject *)o;
            its = PyArray_TYPE(x);
            if (PyArray_NDIM(x) == 0 || !PyArray_ISALIGNED(x) || !PyArray_ISNOTSWAPPED(x) ||
                own_bytes(o) <= limits[S_FORWARD][0] || !is_private(x)) {
                return NULL;
            }
            own = o;
        }
        else {
            return NULL;
        }
        if (its < 0 || its >= TYPES || (like != NULL && !is_same_shape(own, like))) {
            return NULL;
        }
        like = own;
        if (nin == 3 && i == 0) { /* of three operands the first is a condition */
            if (its != NPY_BOOL) {
                return NULL;
            }
        }
        else if (type >= 0 && its != type) {
            return NULL;
        }
        else {
            type = its;
        }
        operands[i] = o;
    }
    if (count > LONGEST_TAPE) { /* perhaps they share much */
        walks++;
        count = 1;
        for (int i = 0; i < nin; i++) {
            count += count_sketches(operands[i]);
        }
    }
    if (count > LONGEST_TAPE) {
        /* Those that have no plan yet are left to Python, by which they get one. */
        if (compute_operands(given, nin) < 0) {
            return NULL;
        }
        for (int i = 0; i < nin; i++) {
            if (shows_sketch(given[i])) {
                return NULL;
            }
        }
        return sketch(slot, given, nin, site);
    }
    if (type < 0 || sketched[slot][type] < 0 || (count == 1 && !priced[slot][type]) ||
        PyArray_SIZE((PyArrayObject *)like) > most_bytes / item_size(sketched[slot][type])) {
        return NULL;
    }
    for (int i = 0; i < nin; i++) {
        if (operands[i] == given[i] && !is_number_for(operands[i], type)) {
            return NULL;
        }
    }
    Sketch *s = PyObject_New(Sketch, &SketchType);
    if (s == NULL) {
        return NULL;
    }
    memset((char *)s + offsetof(Sketch, operands), 0, sizeof(Sketch) - offsetof(Sketch, operands));
    for (int i = 0; i < nin; i++) {
        s->operands[i] = Py_NewRef(operands[i]);
    }
    s->like = Py_NewRef(like);
    s->modes = Py_NewRef(modes_found);
    s->slot = slot;
    s->nin = nin;
    s->type = sketched[slot][type];
    s->count = count;
    s->site = (unsigned short)site;
    Cell *cell = (Cell *)array_type->tp_alloc(array_type, 0);
    if (cell == NULL) {
        Py_DECREF(s);
        return NULL;
    }
    cell->value = (PyObject *)s;
    link_sketch(s, cell);
    return (PyObject *)cell;
}

/* Have a cell that shows a sketch show an operation on it instead, as an operator in place does: no
 * view of what waits exists, so nobody can tell this from a write. 1 where that is done, 0 where it
 * is for others, -1 with an error. */
static int
sketch_further(int slot, PyObject *self, PyObject *other)
{
    PyObject *const given[2] = {self, other};
    Sketch *old = (Sketch *)((Cell *)self)->value;
    int type = old->type;
    PyObject *made = sketch(slot, given, 2, 0);
    if (made == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Sketch *s = (Sketch *)((Cell *)made)->value;
    PyObject *before = ((Cell *)self)->value;
    if (s->type != type) { /* NumPy casts, or refuses to */
        Py_DECREF(made);
        return 0;
    }
    if (IS_SKETCH(before)) {
        unlink_sketch((Sketch *)before);
    }
    Py_INCREF(s);
    unlink_sketch(s);
    Py_DECREF(made);
    link_sketch(s, (Cell *)self);
    ((Cell *)self)->value = (PyObject *)s;
    Py_DECREF(before);
    return 1;
}

static void
sketch_dealloc(PyObject *self)
{
    Sketch *s = (Sketch *)self;
    unlink_sketch(s);
    for (int i = 0; i < MOST_OPERANDS; i++) {
        Py_XDECREF(s->operands[i]);
    }
    Py_XDECREF(s->like);
    Py_XDECREF(s->modes);
    Py_XDECREF(s->node);
    Py_XDECREF(s->value);
    PyObject_Free(self);
}

static PyObject *
sketch_operands(PyObject *self, void *ignored)
{
    Sketch *s = (Sketch *)self;
    PyObject *made = PyTuple_New(s->nin);
    for (int i = 0; made != NULL && i < s->nin; i++) {
        PyObject *one = s->operands[i] == NULL ? Py_None : s->operands[i];
        PyTuple_SET_ITEM(made, i, Py_NewRef(one));
    }
    return made;
}

static PyObject *
sketch_cell(PyObject *self, void *ignored)
{
    Cell *cell = ((Sketch *)self)->cell;
    return Py_NewRef(cell == NULL ? Py_None : (PyObject *)cell);
}

/* Set the computed value: whoever shows the sketch shows that from now on. */
static int
sketch_set_value(PyObject *self, PyObject *value, void *ignored)
{
    Sketch *s = (Sketch *)self;
    if (value == NULL || !PyArray_CheckExact(value)) {
        PyErr_SetString(PyExc_TypeError, "value: wanted a numpy.ndarray");
        return -1;
    }
    Cell *cell = s->cell;
    Py_INCREF(self);
    unlink_sketch(s);
    if (s->value == NULL) { /* not computed by two threads at once */
        s->value = Py_NewRef(value);
    }
    for (int i = 0; i < s->nin; i++) {
        Py_CLEAR(s->operands[i]);
    }
    s->count = 1;
    if (cell != NULL && cell->value == self) {
        Py_SETREF(cell->value, Py_NewRef(value));
    }
    Py_DECREF(self);
    return 0;
}

/* show_node(sketch, node): have the array that shows the sketch show the node instead; False if it
 * does not show the sketch any more. */
static PyObject *
py_show_node(PyObject *module, PyObject *args)
{
    PyObject *sketch, *node;
    if (!PyArg_ParseTuple(args, "O!O", &SketchType, &sketch, &node)) {
        return NULL;
    }
    Cell *cell = ((Sketch *)sketch)->cell;
    if (cell == NULL || cell->value != sketch) {
        Py_RETURN_FALSE;
    }
    Py_INCREF(sketch);
    unlink_sketch((Sketch *)sketch);
    Py_SETREF(cell->value, Py_NewRef(node));
    Py_DECREF(sketch);
    Py_RETURN_TRUE;
}

static PyObject *
sketch_get_value(PyObject *self, void *ignored)
{
    PyObject *value = ((Sketch *)self)->value;
    return Py_NewRef(value == NULL ? Py_None : value);
}

static PyObject *
sketch_shape(PyObject *self, void *ignored)
{
    PyObject *like = ((Sketch *)self)->like;
    return PyArray_IntTupleFromIntp(PyArray_NDIM((PyArrayObject *)like),
                                    PyArray_DIMS((PyArrayObject *)like));
}

static PyObject *
sketch_dtype(PyObject *self, void *ignored)
{
    return (PyObject *)PyArray_DescrFromType(((Sketch *)self)->type);
}

static PyObject *
sketch_size(PyObject *self, void *ignored)
{
    return PyLong_FromSsize_t(PyArray_SIZE((PyArrayObject *)((Sketch *)self)->like));
}

static PyGetSetDef sketch_getset[] = {
    {"shape", sketch_shape, NULL, "Shape of the result.", NULL},
    {"dtype", sketch_dtype, NULL, "Data type of the result.", NULL},
    {"size", sketch_size, NULL, "Elements of the result.", NULL},
    {"operands", sketch_operands, NULL, "Arrays, sketches and numbers.", NULL},
    {"cell", sketch_cell, NULL, "Who shows it, or None.", NULL},
    {"value", sketch_get_value, sketch_set_value, "The result once computed, or None.", NULL},
    {NULL},
};

static PyMemberDef sketch_members[] = {
    {"slot", T_INT, offsetof(Sketch, slot), READONLY, NULL},
    {"site", T_USHORT, offsetof(Sketch, site), READONLY, NULL},
    {"modes", T_OBJECT, offsetof(Sketch, modes), READONLY, NULL},
    {"node", T_OBJECT, offsetof(Sketch, node), 0, NULL},
    {NULL},
};

static PyTypeObject SketchType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "dispatcharr.face._fastpath_c.Sketch",
    .tp_doc = "An operation that waits, not yet a node.",
    .tp_basicsize = sizeof(Sketch),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_members = sketch_members,
    .tp_getset = sketch_getset,
    .tp_dealloc = sketch_dealloc,
};

/* Have Python make nodes of all that is shown; -1 with an error. */
static int
flush(void)
{
    PyObject *done = flush_hook == NULL ? NULL : PyObject_CallNoArgs(flush_hook);
    if (done == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_SystemError, "a sketch without a planner");
        }
        return -1;
    }
    Py_DECREF(done);
    return 0;
}

static PyObject *
cell_get_value(PyObject *self, void *ignored)
{
    Cell *cell = (Cell *)self;
    if (cell->value != NULL && IS_SKETCH(cell->value) && flush() < 0) {
        /* What another array met is told to who asks for that one. */
        if (IS_SKETCH(cell->value) || !PyErr_ExceptionMatches(PyExc_Exception)) {
            return NULL;
        }
        PyErr_Clear();
    }
    if (cell->value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_value");
        return NULL;
    }
    if (IS_SKETCH(cell->value)) {
        PyErr_SetString(PyExc_SystemError, "a sketch was left without a node");
        return NULL;
    }
    return Py_NewRef(cell->value);
}

/* The value whatever it is: for whoever asks for no more than its shape and dtype. */
static PyObject *
cell_get_form(PyObject *self, void *ignored)
{
    PyObject *value = ((Cell *)self)->value;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_form");
        return NULL;
    }
    return Py_NewRef(value);
}

static int
cell_set_value(PyObject *self, PyObject *value, void *ignored)
{
    Cell *cell = (Cell *)self;
    if (cell->value != NULL && IS_SKETCH(cell->value)) {
        unlink_sketch((Sketch *)cell->value);
    }
    Py_XSETREF(cell->value, Py_XNewRef(value));
    return 0;
}

/* Note that a cell lets go of its value, which a sketch may be the last to keep. */
static void
let_value_go(Cell *cell)
{
    PyObject *value = cell->value;
    if (value == NULL) {
        return;
    }
    if (IS_SKETCH(value)) {
        unlink_sketch((Sketch *)value);
    }
    else if (ANY_SHOWN && PyArray_CheckExact(value)) {
        PyObject *root = value, *base;
        while ((base = PyArray_BASE((PyArrayObject *)root)) != NULL && PyArray_CheckExact(base)) {
            root = base;
        }
        pinned |= own_bytes(root) >= pinned_bytes && (Py_REFCNT(value) > 1 || Py_REFCNT(root) > 1);
    }
}

static PyObject *
py_settled(PyObject *module, PyObject *array)
{
    if (!IS_CELL(array)) {
        PyErr_SetString(PyExc_TypeError, "settled: wanted an array");
        return NULL;
    }
    PyObject *value = ((Cell *)array)->value;
    if (value != NULL && IS_SKETCH(value) && compute(value) < 0) {
        return NULL;
    }
    return cell_get_value(array, NULL);
}

static PyObject *
py_settle(PyObject *module, PyObject *ignored)
{
    if (ANY_SHOWN && flush() < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
py_sketches(PyObject *module, PyObject *ignored)
{
    PyObject *made = PyList_New(0);
    for (Sketch *s = shown_first; made != NULL && s != NULL; s = s->after) {
        if (PyList_Append(made, (PyObject *)s) < 0) {
            Py_CLEAR(made);
        }
    }
    pinned = 0;
    return made;
}

/* ---- structure: what tells sketches that need different plans apart -------------------------- */

enum { MOST_LEAVES = 2 * LONGEST_TAPE, MOST_KEY = 8192 };

typedef struct {
    Sketch *sketches[LONGEST_TAPE];
    PyObject *leaves[MOST_LEAVES];
    PyObject *numbers[MOST_LEAVES];
    int sketch_count, leaf_count, number_count, size;
    unsigned char key[MOST_KEY];
} Structure;

static int
put(Structure *t, const void *bytes, int count)
{
    if (t->size + count > MOST_KEY) {
        return -1;
    }
    memcpy(t->key + t->size, bytes, (size_t)count);
    t->size += count;
    return 0;
}

static int
find_sketch(Structure *t, Sketch *s)
{
    for (int i = t->sketch_count - 1; i >= 0; i--) {
        if (t->sketches[i] == s) {
            return i;
        }
    }
    return -1;
}

/* Add a sketch and those below it, operands first; -1 where they have no plan to share. */
static int
add_sketch(Structure *t, Sketch *s, PyObject *modes)
{
    if (s->node != NULL || s->modes != modes || t->sketch_count == LONGEST_TAPE) {
        return -1;
    }
    for (int i = 0; i < s->nin; i++) {
        PyObject *o = s->operands[i];
        if (o == NULL) {
            return -1;
        }
        if (IS_SKETCH(o) && ((Sketch *)o)->value == NULL && find_sketch(t, (Sketch *)o) < 0 &&
            add_sketch(t, (Sketch *)o, modes) < 0) {
            return -1;
        }
    }
    if (t->sketch_count == LONGEST_TAPE) {
        return -1;
    }
    unsigned char refs[2 + 2 * MOST_OPERANDS];
    double exponents[MOST_OPERANDS];
    short slot = (short)s->slot;
    int used = 0, numbers = 0;
    if (put(t, &slot, 2) < 0) {
        return -1;
    }
    refs[used++] = s->cell != NULL;
    refs[used++] = (unsigned char)s->nin;
    for (int i = 0; i < s->nin; i++) {
        PyObject *o = s->operands[i];
        if (IS_SKETCH(o) && ((Sketch *)o)->value == NULL) {
            refs[used++] = 'n';
            refs[used++] = (unsigned char)find_sketch(t, (Sketch *)o);
            continue;
        }
        if (IS_SKETCH(o)) {
            o = ((Sketch *)o)->value;
        }
        if (PyArray_CheckExact(o)) {
            int place = 0;
            while (place < t->leaf_count && t->leaves[place] != o) {
                place++;
            }
            if (place == MOST_LEAVES) {
                return -1;
            }
            if (place == t->leaf_count) {
                t->leaves[t->leaf_count++] = o;
            }
            refs[used++] = 'a';
            refs[used++] = (unsigned char)place;
            continue;
        }
        refs[used++] = PyFloat_CheckExact(o) ? 'f' : PyLong_CheckExact(o) ? 'i' : 's';
        refs[used++] = 0;
        if (t->number_count == MOST_LEAVES) {
            return -1;
        }
        t->numbers[t->number_count++] = o;
        if (s->slot == S_POW) { /* some powers are other functions */
            exponents[numbers++] = PyFloat_CheckExact(o) ? PyFloat_AS_DOUBLE(o)
                                   : PyLong_CheckExact(o) ? (double)PyLong_AsLongLong(o)
                                                          : 0.0;
        }
    }
    t->sketches[t->sketch_count++] = s;
    return put(t, refs, used) < 0 ? -1 : put(t, exponents, numbers * (int)sizeof(double));
}

static void
hold_all(PyObject **objects, int count)
{
    for (int i = 0; i < count; i++) {
        Py_INCREF(objects[i]);
    }
}

static void
let_all_go(PyObject **objects, int count)
{
    for (int i = 0; i < count; i++) {
        Py_DECREF(objects[i]);
    }
}

/* A tuple that takes over the references to so many objects. */
static PyObject *
tuple_of(PyObject **objects, int count)
{
    PyObject *made = PyTuple_New(count);
    for (int i = 0; i < count; i++) {
        if (made == NULL) {
            Py_DECREF(objects[i]);
        }
        else {
            PyTuple_SET_ITEM(made, i, objects[i]);
        }
    }
    return made;
}

/* Gather what a sketch computes, in borrowed references; -1 where it has no plan to share. */
static int
read_structure(Structure *t, Sketch *sketch)
{
    t->sketch_count = t->leaf_count = t->number_count = t->size = 0;
    PyObject *modes = sketch->modes;
    int failed = put(t, &modes, sizeof(modes)) < 0 || add_sketch(t, sketch, modes) < 0;
    for (int i = 0; !failed && i < t->leaf_count; i++) {
        PyArrayObject *x = (PyArrayObject *)t->leaves[i];
        unsigned char head[2] = {(unsigned char)PyArray_TYPE(x), (unsigned char)PyArray_NDIM(x)};
        int bytes = PyArray_NDIM(x) * (int)sizeof(npy_intp);
        failed = put(t, head, 2) < 0 || put(t, PyArray_DIMS(x), bytes) < 0 ||
                 put(t, PyArray_STRIDES(x), bytes) < 0;
    }
    return failed ? -1 : 0;
}

/* (key, sketches, leaves, numbers) of a sketch; None where it has no plan to share. */
static PyObject *
py_structure(PyObject *module, PyObject *sketch)
{
    if (!IS_SKETCH(sketch)) {
        PyErr_SetString(PyExc_TypeError, "structure: wanted a sketch");
        return NULL;
    }
    Structure t;
    if (read_structure(&t, (Sketch *)sketch) < 0) {
        Py_RETURN_NONE;
    }
    /* Held before anything is allocated that the garbage collector may come by. */
    hold_all((PyObject **)t.sketches, t.sketch_count);
    hold_all(t.leaves, t.leaf_count);
    hold_all(t.numbers, t.number_count);
    PyObject *parts[4] = {
        PyBytes_FromStringAndSize((char *)t.key, t.size),
        tuple_of((PyObject **)t.sketches, t.sketch_count),
        tuple_of(t.leaves, t.leaf_count),
        tuple_of(t.numbers, t.number_count),
    };
    if (parts[0] == NULL || parts[1] == NULL || parts[2] == NULL || parts[3] == NULL) {
        for (int i = 0; i < 4; i++) {
            Py_XDECREF(parts[i]);
        }
        return NULL;
    }
    return tuple_of(parts, 4);
}

static PyObject *
py_sketch_of(PyObject *module, PyObject *array)
{
    PyObject *value = IS_CELL(array) ? ((Cell *)array)->value : NULL;
    return Py_NewRef(value != NULL && IS_SKETCH(value) ? value : Py_None);
}

static PyObject *
py_set_tape(PyObject *module, PyObject *args)
{
    PyObject *flushes, *runs, *notices, *foreign, *lent, *variable, *space;
    Py_ssize_t worth, most;
    if (!PyArg_ParseTuple(args, "OOOO!O!OO!nn", &flushes, &runs, &notices, &PyDict_Type, &foreign, &PyDict_Type,
                          &lent, &variable, &PyDict_Type, &space, &worth, &most)) {
        return NULL;
    }
    Py_XSETREF(flush_hook, Py_NewRef(flushes));
    Py_XSETREF(run_hook, Py_NewRef(runs));
    Py_XSETREF(notice_hook, Py_NewRef(notices));
    Py_XSETREF(foreign_roots, Py_NewRef(foreign));
    Py_XSETREF(lent_roots, Py_NewRef(lent));
    Py_XSETREF(modes_variable, Py_NewRef(variable));
    Py_XSETREF(warnings_dict, Py_NewRef(space));
    pinned_bytes = worth;
    most_bytes = most;
    filters_name = filters_name ? filters_name : PyUnicode_InternFromString("filters");
    worker_name = worker_name ? worker_name : PyUnicode_InternFromString("distributed.worker");
    if (filters_name == NULL || worker_name == NULL) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
py_set_sketched(PyObject *module, PyObject *args)
{
    int slot, type, result;
    if (!PyArg_ParseTuple(args, "iii", &slot, &type, &result)) {
        return NULL;
    }
    if (slot < 0 || slot >= SLOTS || type < 0 || type >= TYPES || result >= TYPES) {
        PyErr_SetString(PyExc_ValueError, "set_sketched: slot or type out of range");
        return NULL;
    }
    sketched[slot][type] = (signed char)result;
    Py_RETURN_NONE;
}

/* Take operations from now on, as long as modes and filters stay what they are. */
static PyObject *
py_patient(PyObject *module, PyObject *args)
{
    PyObject *seen, *found, *filters;
    if (!PyArg_ParseTuple(args, "OO!O!", &seen, &PyTuple_Type, &found, &PyList_Type, &filters)) {
        return NULL;
    }
    if (modes_variable == NULL) {
        Py_RETURN_NONE;
    }
    Py_XSETREF(modes_seen, Py_NewRef(seen));
    Py_XSETREF(modes_found, Py_NewRef(found));
    Py_XSETREF(filters_seen, Py_NewRef(filters));
    filters_count = PyList_GET_SIZE(filters);
    Py_XSETREF(first_filter, filters_count ? Py_NewRef(PyList_GET_ITEM(filters, 0)) : NULL);
    Py_RETURN_NONE;
}

static PyObject *
py_close_tape(PyObject *module, PyObject *arg)
{
    long by = PyLong_AsLong(arg);
    if (by == -1 && PyErr_Occurred()) {
        return NULL;
    }
    tape_closed += (int)by;
    return PyLong_FromLong(tape_closed + closed);
}

static PyObject *
py_taping(PyObject *module, PyObject *on)
{
    int is_on = PyObject_IsTrue(on);
    if (is_on < 0) {
        return NULL;
    }
    is_taping = is_on && modes_variable != NULL;
    Py_RETURN_NONE;
}

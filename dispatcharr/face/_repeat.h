/* Statements run once more: the kernel that a structure of sketches took before, on other arrays.
 *
 * Where a decision holds for some runs (route/standing.py), Python makes a Repeat of it: the kernel,
 * where in its table of arguments the addresses of arrays belong, and what results are like. A run then
 * allocates results, fills in the table, calls the crew (kernels/_crew.c) and shows the results. On
 * arrays that fill a cache the same in Python took as long as a kernel on 50,000 elements.
 *
 * A Repeat is good for as many runs as the decision is, and while nothing has changed that it was made
 * on: guards are names of modules and context variables, each with the value it has to have. Whatever
 * the machine's flags say, and the end of most reductions, is Python's to look at.
 *
 * While the kernel runs without the interpreter's lock, writers of other threads have to wait: who
 * runs is in a list that storage/readers.py is shown.
 */

#include <time.h>

enum { MOST_GUARDS = 16, MOST_FIELDS = 16, MOST_RESULTS = 16 };
enum { FOLD_NONE, FOLD_SUM, FOLD_MIN, FOLD_MAX, FOLD_VARIANCE, FOLD_DEVIATION };
static const char *FOLD_NAMES[] = {"", "add", "minimum", "maximum", "variance", "deviation"};

/* A table of arguments, in use by one run at a time. */
typedef struct Spare {
    struct Spare *next;
    PyObject *job;      /* whose table it is */
    PyObject *address;  /* of the table */
    int64_t *words, *numbers;
    int fields;         /* of the states of a reduction, and what they are of nothing */
    struct {
        char *at;
        const char *start;
        size_t size;
    } field[MOST_FIELDS];
} Spare;

typedef struct {
    int place;  /* of its address in the table */
    int from;   /* which of the leaves it is, or of the numbers */
    int type;   /* of a number; -1 of a leaf */
} Input;

typedef struct {
    int place;  /* of its address in the table; -1 of what is reduced */
    int sketch; /* whose value it is */
    int ndim, is_ordered;
    npy_intp bytes;
    npy_intp dims[NPY_MAXDIMS], strides[NPY_MAXDIMS];
    PyArray_Descr *descr;
} Output;

typedef struct {
    PyObject_HEAD
    PyObject *run;      /* the crew's */
    PyObject *fresh;    /* returns another table: see take_spare */
    PyObject *end;      /* called with job, leaves, numbers, results: returns the errors met */
    PyObject *tell;     /* called with those, once the results are shown */
    PyObject *origin;   /* what is to be known of the results, with the seconds */
    PyObject *kernel, *stride, *boxes, *apart, *starts, *count, *threads;
    PyObject *spaces[MOST_GUARDS], *names[MOST_GUARDS], *values[MOST_GUARDS];
    int guards;
    long left;          /* how many runs the decision is good for */
    long timed;         /* runs since `measured` was asked, the seconds of the quickest and of all */
    double quickest, spent;
    long long mask;     /* flags of the machine that have to be looked at */
    int fold, fold_type, is_int;
    double divisor;     /* of a mean; 0 of all else */
    int inputs, outputs, reduces;
    Input *input;
    Output *output;     /* the result of a reduction is the last */
    Spare *spare;
} Repeat;

static PyTypeObject RepeatType;
static PyObject *repeats = NULL; /* by the keys of structures */

/* ---- who runs -------------------------------------------------------------------------------- */

typedef struct Running {
    struct Running *next;
    unsigned long thread;
    long long ticket;
    PyObject **leaves;
    Py_ssize_t count;
} Running;

static long long tickets = 0;

static void
begin_running(Running *me, PyObject **leaves, Py_ssize_t count)
{
    *me = (Running){running, PyThread_get_thread_ident(), --tickets, leaves, count};
    running = me;
}

static void
end_running(Running *me)
{
    for (Running **at = &running; *at != NULL; at = &(*at)->next) {
        if (*at == me) {
            *at = me->next;
            return;
        }
    }
}

/* What py_running tells of one. */
typedef struct {
    long long ticket;
    unsigned long thread;
    Py_ssize_t count;
    void *roots[MOST_LEAVES];
} Seen;

/* Copy what is in the list, which may change as soon as anything of Python's is made: the garbage
 * collector may let other threads go on. NULL with an error, or where there is nothing. */
static Seen *
see_running(size_t *count)
{
    *count = 0;
    for (Running *one = running; one != NULL; one = one->next) {
        ++*count;
    }
    Seen *seen = *count == 0 ? NULL : PyMem_RawMalloc(*count * sizeof(Seen));
    if (seen == NULL) {
        return *count == 0 ? NULL : (Seen *)PyErr_NoMemory();
    }
    Seen *to = seen;
    for (Running *one = running; one != NULL; one = one->next, to++) {
        to->ticket = one->ticket;
        to->thread = one->thread;
        to->count = one->count;
        for (Py_ssize_t i = 0; i < one->count; i++) {
            PyObject *root = one->leaves[i], *base;
            while ((base = PyArray_BASE((PyArrayObject *)root)) != NULL && PyArray_Check(base)) {
                root = base;
            }
            to->roots[i] = root;
        }
    }
    return seen;
}

/* running(): (ticket, thread, ids of the roots that are read) of each; tickets are negative. */
static PyObject *
py_running(PyObject *module, PyObject *ignored)
{
    size_t count;
    Seen *seen = see_running(&count);
    PyObject *made = seen == NULL && count ? NULL : PyList_New(0);
    for (Seen *one = seen; made != NULL && one != NULL && one < seen + count; one++) {
        PyObject *roots = PyTuple_New(one->count);
        for (Py_ssize_t i = 0; roots != NULL && i < one->count; i++) {
            PyObject *key = PyLong_FromVoidPtr(one->roots[i]);
            if (key == NULL) {
                Py_CLEAR(roots);
                break;
            }
            PyTuple_SET_ITEM(roots, i, key);
        }
        PyObject *entry =
            roots == NULL ? NULL : Py_BuildValue("(LkN)", one->ticket, one->thread, roots);
        if (entry == NULL || PyList_Append(made, entry) < 0) {
            Py_CLEAR(made);
        }
        Py_XDECREF(entry);
    }
    PyMem_RawFree(seen);
    return made;
}

/* Of a forked child: what its parent's other threads ran is not run here. */
static PyObject *
py_forget_running(PyObject *module, PyObject *ignored)
{
    unsigned long me = PyThread_get_thread_ident();
    for (Running **at = &running; *at != NULL;) {
        if ((*at)->thread == me) {
            at = &(*at)->next;
        }
        else {
            *at = (*at)->next;
        }
    }
    Py_RETURN_NONE;
}

/* ---- what a run needs ------------------------------------------------------------------------ */

/* Whether everything is as it was when the decision was made. */
static int
is_guarded(Repeat *r)
{
    for (int i = 0; i < r->guards; i++) {
        PyObject *found = NULL;
        if (r->names[i] != NULL) {
            found = PyDict_GetItemWithError(r->spaces[i], r->names[i]);
        }
        else if (PyContextVar_Get(r->spaces[i], NULL, &found) == 0) {
            Py_XDECREF(found); /* compared alone; the value that it is compared with is held */
        }
        PyErr_Clear();
        if (found != r->values[i]) {
            return 0;
        }
    }
    return 1;
}

static void
free_spare(Spare *spare)
{
    Py_XDECREF(spare->job);
    Py_XDECREF(spare->address);
    PyMem_Free(spare);
}

/* A table of arguments that nobody uses, NULL with an error. Python makes one as (job, address of the
 * table, address of memory for numbers, ((address of a field, address of what it is of nothing,
 * bytes), ...)). */
static Spare *
take_spare(Repeat *r)
{
    Spare *spare = r->spare;
    if (spare != NULL) {
        r->spare = spare->next;
        return spare;
    }
    PyObject *made = PyObject_CallNoArgs(r->fresh), *job, *address, *fields;
    long long numbers;
    if (made == NULL) {
        return NULL;
    }
    if (!PyArg_ParseTuple(made, "OO!LO!", &job, &PyLong_Type, &address, &numbers, &PyTuple_Type,
                          &fields)) {
        Py_DECREF(made);
        return NULL;
    }
    spare = PyMem_Calloc(1, sizeof(Spare));
    if (spare == NULL || PyTuple_GET_SIZE(fields) > MOST_FIELDS) {
        PyMem_Free(spare);
        Py_DECREF(made);
        return (Spare *)PyErr_NoMemory();
    }
    spare->job = Py_NewRef(job);
    spare->address = Py_NewRef(address);
    spare->words = PyLong_AsVoidPtr(address);
    spare->numbers = (int64_t *)(intptr_t)numbers;
    for (; spare->fields < PyTuple_GET_SIZE(fields); spare->fields++) {
        long long at, start;
        Py_ssize_t size;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(fields, spare->fields), "LLn", &at, &start, &size)) {
            Py_DECREF(made);
            free_spare(spare);
            return NULL;
        }
        spare->field[spare->fields].at = (char *)(intptr_t)at;
        spare->field[spare->fields].start = (const char *)(intptr_t)start;
        spare->field[spare->fields].size = (size_t)size;
    }
    Py_DECREF(made);
    return spare;
}

static void
give_spare(Repeat *r, Spare *spare)
{
    spare->next = r->spare;
    r->spare = spare;
}

/* Write a number as an element of a type; 0 where Python has to. */
static int
put_constant(int64_t *to, PyObject *o, int type)
{
    if (type == NPY_INT64 && PyLong_CheckExact(o)) {
        *to = PyLong_AsLongLong(o);
        return 1;
    }
    double x;
    if (type != NPY_DOUBLE && type != NPY_FLOAT) {
        return 0;
    }
    if (PyFloat_Check(o)) { /* NumPy's float64 is one */
        x = PyFloat_AS_DOUBLE(o);
    }
    else if (PyLong_CheckExact(o)) {
        x = PyLong_AsDouble(o);
    }
    else if (PyArray_IsScalar(o, Float)) {
        x = PyArrayScalar_VAL(o, Float);
    }
    else {
        return 0;
    }
    if (type == NPY_DOUBLE) {
        memcpy(to, &x, sizeof(x));
        return 1;
    }
    float narrow = (float)x;
    memcpy(to, &narrow, sizeof(narrow));
    return 1;
}

static PyObject *
new_output(Output *one)
{
    PyObject *before = hold(one->bytes);
    Py_INCREF(one->descr);
    PyObject *made =
        PyArray_NewFromDescr(&PyArray_Type, one->descr, one->ndim, one->dims,
                             one->is_ordered ? one->strides : NULL, NULL, 0, NULL);
    let_go(before);
    return made;
}

/* Allocate the results and fill in the table; 1, 0 where Python has to, -1 with an error. */
static int
bind_table(Repeat *r, Spare *spare, PyObject **leaves, PyObject **numbers, PyObject **made)
{
    spare->words[0] = 0;
    for (int i = 0; i < r->inputs; i++) {
        Input *one = &r->input[i];
        if (one->type < 0) {
            spare->words[one->place] = (int64_t)(intptr_t)PyArray_DATA((PyArrayObject *)leaves[one->from]);
        }
        else {
            if (!put_constant(&spare->numbers[i], numbers[one->from], one->type)) {
                return 0;
            }
            spare->words[one->place] = (int64_t)(intptr_t)&spare->numbers[i];
        }
    }
    for (int i = 0; i < r->outputs + r->reduces; i++) {
        made[i] = new_output(&r->output[i]);
        if (made[i] == NULL) {
            return -1;
        }
        if (r->output[i].place >= 0) {
            spare->words[r->output[i].place] = (int64_t)(intptr_t)PyArray_DATA((PyArrayObject *)made[i]);
        }
    }
    for (int i = 0; i < spare->fields; i++) {
        memcpy(spare->field[i].at, spare->field[i].start, spare->field[i].size);
    }
    return 1;
}

/* ---- the end of a reduction ------------------------------------------------------------------ */

#define JOIN(name, type)                                                                          \
    /* Join neighbours until one is left: kernels/compiled_reduce.py has the same tree. */        \
    static int name(type *state, npy_intp count, npy_intp each, int fold, type divisor)           \
    {                                                                                             \
        while (count > 1) {                                                                       \
            npy_intp pairs = count / 2;                                                           \
            for (npy_intp i = 0; i < pairs; i++) {                                                \
                for (npy_intp j = 0; j < each; j++) {                                             \
                    type x = state[2 * i * each + j], y = state[(2 * i + 1) * each + j];          \
                    if (x != x || y != y) {                                                       \
                        return 0;                                                                 \
                    }                                                                             \
                    state[i * each + j] =                                                         \
                        fold == FOLD_SUM ? x + y : fold == FOLD_MIN ? (x < y ? x : y)             \
                                                                    : (x > y ? x : y);            \
                }                                                                                 \
            }                                                                                     \
            if (count % 2) {                                                                      \
                memmove(state + pairs * each, state + 2 * pairs * each,                           \
                        (size_t)each * sizeof(type));                                             \
            }                                                                                     \
            count = pairs + count % 2;                                                            \
        }                                                                                         \
        for (npy_intp j = 0; j < each; j++) {                                                     \
            if (!isfinite(state[j]) || (fold != FOLD_SUM && state[j] == 0)) {                     \
                return 0;                                                                         \
            }                                                                                     \
            if (divisor != 0) {                                                                   \
                state[j] /= divisor;                                                              \
            }                                                                                     \
        }                                                                                         \
        return 1;                                                                                 \
    }

JOIN(join_doubles, double)
JOIN(join_floats, float)

/* Join moments (means, counts, spreads of `count` segments, `each` side by side) as ops/moments.py does:
 * counts are of double precision, so a first joining of floats makes doubles. What is left of the spreads
 * is divided, and the root taken; 0 where something is not finite. */
static int
join_moments(double *mean, npy_intp count, npy_intp each, int fold, int type, double divisor)
{
    double *weight = mean + count * each, *spread = weight + count * each;
    int is_narrow = type == NPY_FLOAT;
    while (count > 1) {
        npy_intp pairs = count / 2;
        for (npy_intp i = 0; i < pairs * each; i++) {
            npy_intp a = i / each * 2 * each + i % each, b = a + each;
            double total = weight[a] + weight[b], share = weight[b] / total;
            double apart = mean[b] - mean[a], spreads = spread[a] + spread[b], squared;
            if (is_narrow) {
                apart = (float)mean[b] - (float)mean[a];
                squared = (float)apart * (float)apart;
                spreads = (float)spread[a] + (float)spread[b];
            }
            else {
                squared = apart * apart;
            }
            spread[i] = spreads + squared * (weight[a] * share);
            mean[i] = mean[a] + apart * share;
            weight[i] = total;
        }
        if (count % 2) {
            for (int field = 0; field < 3; field++) {
                double *of = field == 0 ? mean : field == 1 ? weight : spread;
                memmove(of + pairs * each, of + 2 * pairs * each, (size_t)each * sizeof(double));
            }
        }
        count = pairs + count % 2;
        is_narrow = 0;
    }
    for (npy_intp j = 0; j < each; j++) {
        double found = spread[j] / divisor;
        if (is_narrow) { /* of a single segment */
            found = (float)spread[j] / (float)divisor;
        }
        if (fold == FOLD_DEVIATION) {
            found = is_narrow ? sqrtf((float)found) : sqrt(found);
        }
        if (!isfinite(found) || !isfinite(mean[j])) {
            return 0;
        }
        spread[j] = found;
    }
    return 1;
}

/* Join the states of segments of a variance or deviation, and write the result; as join_states. */
static int
join_spreads(Repeat *r, Spare *spare, PyArrayObject *target)
{
    npy_intp each = PyArray_SIZE(target);
    size_t item = (size_t)PyArray_ITEMSIZE(target), size = spare->field[0].size;
    if (spare->fields != 3 || each == 0 || size == 0 || size % (each * item) ||
        spare->field[1].size != size || spare->field[2].size != size) {
        return 0;
    }
    npy_intp all = (npy_intp)(size / item);
    double *room = PyMem_Malloc(3 * (size_t)all * sizeof(double));
    if (room == NULL) {
        return 0;
    }
    int is_float = r->fold_type == NPY_FLOAT;
    for (int field = 0; field < 3; field++) {
        for (npy_intp i = 0; i < all; i++) {
            const char *at = spare->field[field].at;
            room[field * all + i] = is_float ? (double)((const float *)at)[i] : ((const double *)at)[i];
        }
    }
    int done = join_moments(room, all / each, each, r->fold, r->fold_type, r->divisor);
    for (npy_intp j = 0; done && j < each; j++) {
        double found = room[2 * all + j];
        if (is_float) {
            ((float *)PyArray_DATA(target))[j] = (float)found;
        }
        else {
            ((double *)PyArray_DATA(target))[j] = found;
        }
    }
    PyMem_Free(room);
    return done;
}

/* Join the states of segments, and write the result; 0 where Python has to: what is not finite may be
 * warned of, and zeros have signs. The states stay as they are. */
static int
join_states(Repeat *r, Spare *spare, PyArrayObject *target)
{
    if (r->fold == FOLD_VARIANCE || r->fold == FOLD_DEVIATION) {
        return join_spreads(r, spare, target);
    }
    size_t size = spare->fields == 1 ? spare->field[0].size : 0;
    size_t each = (size_t)PyArray_NBYTES(target);
    if (r->fold == FOLD_NONE || size == 0 || each == 0 || size % each) {
        return 0;
    }
    npy_intp count = (npy_intp)(size / each), width = PyArray_SIZE(target);
    char *room = PyMem_Malloc(size);
    if (room == NULL) {
        return 0;
    }
    memcpy(room, spare->field[0].at, size);
    int done = r->fold_type == NPY_DOUBLE
                   ? join_doubles((double *)room, count, width, r->fold, r->divisor)
                   : join_floats((float *)room, count, width, r->fold, (float)r->divisor);
    if (done) {
        memcpy(PyArray_DATA(target), room, each);
    }
    PyMem_Free(room);
    return done;
}

/* ---- a run ----------------------------------------------------------------------------------- */

static PyObject *
held_tuple(PyObject **objects, Py_ssize_t count)
{
    hold_all(objects, (int)count);
    return tuple_of(objects, (int)count);
}

/* Have Python look at what the kernel left; the errors met, NULL with an error. */
static PyObject *
end_by_python(Repeat *r, Spare *spare, PyObject **leaves, Py_ssize_t leaf_count, PyObject **numbers,
              Py_ssize_t number_count, PyObject **made)
{
    PyObject *parts[3] = {held_tuple(leaves, leaf_count), held_tuple(numbers, number_count),
                          held_tuple(made, r->outputs + r->reduces)};
    PyObject *errors = NULL;
    if (parts[0] != NULL && parts[1] != NULL && parts[2] != NULL) {
        errors = PyObject_CallFunctionObjArgs(r->end, spare->job, parts[0], parts[1], parts[2], NULL);
    }
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(parts[i]);
    }
    return errors;
}

static double
seconds_now(void)
{
    struct timespec t;
#ifdef CLOCK_MONOTONIC
    clock_gettime(CLOCK_MONOTONIC, &t);
#else
    timespec_get(&t, TIME_UTC);
#endif
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The result of a reduction as the program gets it; steals a reference. */
static PyObject *
given_result(Repeat *r, PyObject *result, PyObject *origin)
{
    if (PyArray_NDIM((PyArrayObject *)result) > 0) {
        PyObject *made = wrap(result);
        if (made != NULL) {
            Py_XSETREF(((Cell *)made)->origin, Py_NewRef(origin));
        }
        return made;
    }
    PyObject *one = PyArray_ToScalar(PyArray_DATA((PyArrayObject *)result), (PyArrayObject *)result);
    Py_DECREF(result);
    if (one != NULL && r->is_int) {
        Py_SETREF(one, PyNumber_Long(one));
    }
    return one;
}

/* Whether all sketches still wait. */
static int
still_wait(Sketch **sketches, int count)
{
    for (int i = 0; i < count; i++) {
        if (sketches[i]->node != NULL || sketches[i]->value != NULL) {
            return 0;
        }
    }
    return 1;
}

/* Show the results; the errors, if there are any, are told then. -1 with an error. */
static int
show_results(Repeat *r, Sketch **sketches, PyObject **made, PyObject *origin)
{
    for (int i = 0; i < r->outputs; i++) {
        Sketch *s = sketches[r->output[i].sketch];
        Cell *cell = s->cell;
        Py_XINCREF(cell);
        int failed = sketch_set_value((PyObject *)s, made[i], NULL);
        if (!failed && cell != NULL) {
            Py_XSETREF(cell->origin, Py_NewRef(origin));
        }
        Py_XDECREF(cell);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

/* Add up what the kernel takes; who was held up counts as two. */
static void
note_time(Repeat *r, double took)
{
    r->quickest = r->timed == 0 || took < r->quickest ? took : r->quickest;
    r->spent += took < 2 * r->quickest ? took : 2 * r->quickest;
    r->timed++;
}

/* Run the kernel on a structure; 1 where it is done (`result` is that of a reduction), 0 where it is
 * for Python, -1 with an error. What is given has to be held by the caller. */
static int
run_repeat(Repeat *r, Sketch **sketches, int sketch_count, PyObject **leaves, Py_ssize_t leaf_count,
           PyObject **numbers, Py_ssize_t number_count, PyObject **result)
{
    PyObject *made[MOST_RESULTS] = {NULL}, *errors = NULL, *origin = NULL;
    if (r->left <= 0 || !is_guarded(r)) {
        return 0;
    }
    Spare *spare = take_spare(r);
    if (spare == NULL) {
        return -1;
    }
    int done = bind_table(r, spare, leaves, numbers, made);
    if (done > 0 && !still_wait(sketches, sketch_count)) {
        done = 0;
    }
    Running me; /* until the end of what reads the leaves: Python may compute from them once more */
    begin_running(&me, leaves, leaf_count);
    if (done > 0) {
        PyObject *args[] = {r->kernel, spare->address, r->stride, r->boxes,
                            r->apart,  r->starts,      r->count,  r->threads};
        r->left--;
        double start = seconds_now();
        PyObject *ran = PyObject_Vectorcall(r->run, args, 8, NULL);
        double took = seconds_now() - start;
        if (ran != NULL) {
            Py_DECREF(ran);
            note_time(r, took);
            origin = Py_BuildValue("(Od)", r->origin, took);
        }
        done = origin == NULL ? -1 : 1;
    }
    PyArrayObject *target = r->reduces ? (PyArrayObject *)made[r->outputs] : NULL;
    if (done > 0 && ((spare->words[0] & r->mask) || (target && !join_states(r, spare, target)))) {
        errors = end_by_python(r, spare, leaves, leaf_count, numbers, number_count, made);
        done = errors == NULL ? -1 : 1;
    }
    end_running(&me);
    give_spare(r, spare);
    if (done > 0 && show_results(r, sketches, made, origin) < 0) {
        done = -1;
    }
    if (done > 0 && errors != NULL && PyObject_Size(errors) != 0) {
        PyObject *told = PyObject_CallOneArg(r->tell, errors);
        done = told == NULL ? -1 : 1;
        Py_XDECREF(told);
    }
    if (done > 0 && target != NULL) {
        *result = given_result(r, Py_NewRef(target), origin);
        done = *result == NULL ? -1 : 1;
    }
    for (int i = 0; i < MOST_RESULTS; i++) {
        Py_XDECREF(made[i]);
    }
    Py_XDECREF(errors);
    Py_XDECREF(origin);
    return done;
}

/* Compute a sketch by the kernel that its like took; as run_repeat. */
static int
repeat_sketch(PyObject *sketch)
{
    Structure t;
    if (repeats == NULL || closed || tape_closed || read_structure(&t, (Sketch *)sketch) < 0) {
        return 0;
    }
    PyObject *key = PyBytes_FromStringAndSize((char *)t.key, t.size);
    PyObject *found = key == NULL ? NULL : PyDict_GetItemWithError(repeats, key);
    Py_XDECREF(key);
    if (found == NULL || Py_TYPE(found) != &RepeatType) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(found);
    int site = ((Sketch *)sketch)->site;
    hold_all((PyObject **)t.sketches, t.sketch_count);
    hold_all(t.leaves, t.leaf_count);
    hold_all(t.numbers, t.number_count);
    int done = run_repeat((Repeat *)found, t.sketches, t.sketch_count, t.leaves, t.leaf_count,
                          t.numbers, t.number_count, NULL);
    if (done > 0 && t.sketch_count == 1 && site) { /* it was foreseen to have followers */
        sites[site - 1].score = MISTAKEN;
    }
    let_all_go((PyObject **)t.sketches, t.sketch_count);
    let_all_go(t.leaves, t.leaf_count);
    let_all_go(t.numbers, t.number_count);
    Py_DECREF(found);
    return done;
}

/* repeat(repeat, sketches, leaves, numbers): the result of a reduction whose like was run before;
 * NotImplemented where it is for others. */
static PyObject *
py_repeat(PyObject *module, PyObject *args)
{
    PyObject *repeat, *sketches, *leaves, *numbers, *result = NULL;
    if (!PyArg_ParseTuple(args, "O!O!O!O!", &RepeatType, &repeat, &PyTuple_Type, &sketches,
                          &PyTuple_Type, &leaves, &PyTuple_Type, &numbers)) {
        return NULL;
    }
    Repeat *r = (Repeat *)repeat;
    if (!r->reduces || PyTuple_GET_SIZE(leaves) > MOST_LEAVES) {
        PyErr_SetString(PyExc_ValueError, "repeat: wanted that of a reduction, and its leaves");
        return NULL;
    }
    int done = run_repeat(r, (Sketch **)&PyTuple_GET_ITEM(sketches, 0), (int)PyTuple_GET_SIZE(sketches),
                          &PyTuple_GET_ITEM(leaves, 0), PyTuple_GET_SIZE(leaves),
                          &PyTuple_GET_ITEM(numbers, 0), PyTuple_GET_SIZE(numbers), &result);
    if (done == 0) {
        return Py_NewRef(Py_NotImplemented);
    }
    return result;
}

/* ---- the type -------------------------------------------------------------------------------- */

static int
parse_inputs(Repeat *r, PyObject *given)
{
    Py_ssize_t count = PyTuple_GET_SIZE(given);
    r->input = PyMem_Calloc((size_t)count + 1, sizeof(Input));
    if (r->input == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (; r->inputs < count; r->inputs++) {
        Input *one = &r->input[r->inputs];
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(given, r->inputs), "iii", &one->place, &one->from,
                              &one->type)) {
            return -1;
        }
    }
    return 0;
}

static int
parse_output(Output *one, PyObject *given)
{
    PyObject *shape, *strides;
    PyArray_Descr *descr;
    if (!PyArg_ParseTuple(given, "iiO!O!O", &one->place, &one->sketch, &PyTuple_Type, &shape,
                          &PyArrayDescr_Type, &descr, &strides)) {
        return -1;
    }
    one->ndim = (int)PyTuple_GET_SIZE(shape);
    one->is_ordered = strides != Py_None;
    if (one->ndim > NPY_MAXDIMS ||
        (one->is_ordered && (!PyTuple_Check(strides) || PyTuple_GET_SIZE(strides) != one->ndim))) {
        PyErr_SetString(PyExc_ValueError, "Repeat: wanted a shape and strides of one length");
        return -1;
    }
    one->bytes = PyDataType_ELSIZE(descr);
    for (int i = 0; i < one->ndim; i++) {
        one->dims[i] = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i));
        one->strides[i] = one->is_ordered ? PyLong_AsSsize_t(PyTuple_GET_ITEM(strides, i)) : 0;
        one->bytes *= one->dims[i];
    }
    one->descr = (PyArray_Descr *)Py_NewRef(descr);
    return PyErr_Occurred() ? -1 : 0;
}

static int
parse_outputs(Repeat *r, PyObject *given)
{
    Py_ssize_t count = PyTuple_GET_SIZE(given);
    if (count > MOST_RESULTS) {
        PyErr_SetString(PyExc_ValueError, "Repeat: too many results");
        return -1;
    }
    r->output = PyMem_Calloc((size_t)count + 1, sizeof(Output));
    if (r->output == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (parse_output(&r->output[i], PyTuple_GET_ITEM(given, i)) < 0) {
            return -1;
        }
        /* The result of a reduction has no place in the table. */
        r->reduces += r->output[i].place < 0;
        r->outputs += r->output[i].place >= 0;
    }
    return 0;
}

static void
clear_guards(Repeat *r)
{
    while (r->guards > 0) {
        r->guards--;
        Py_CLEAR(r->spaces[r->guards]);
        Py_CLEAR(r->names[r->guards]);
        Py_CLEAR(r->values[r->guards]);
    }
}

/* renew(left, guards, values, origin): be good for so many runs, as long as names and context variables
 * have these values. A guard is a (dict, name) or a context variable. */
static PyObject *
repeat_renew(PyObject *self, PyObject *args)
{
    Repeat *r = (Repeat *)self;
    PyObject *guards, *values, *origin;
    long left;
    if (!PyArg_ParseTuple(args, "lO!O!O", &left, &PyTuple_Type, &guards, &PyTuple_Type, &values, &origin)) {
        return NULL;
    }
    r->left = 0;
    Py_XSETREF(r->origin, Py_NewRef(origin));
    clear_guards(r);
    if (PyTuple_GET_SIZE(guards) > MOST_GUARDS || PyTuple_GET_SIZE(values) != PyTuple_GET_SIZE(guards)) {
        PyErr_SetString(PyExc_ValueError, "renew: too many guards, or not as many values");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(guards); i++) {
        PyObject *one = PyTuple_GET_ITEM(guards, i), *space = one, *name = NULL;
        if (PyTuple_Check(one) && !PyArg_ParseTuple(one, "O!U", &PyDict_Type, &space, &name)) {
            return NULL;
        }
        if (name == NULL && !PyContextVar_CheckExact(one)) {
            PyErr_SetString(PyExc_TypeError, "renew: wanted (dict, name) or a context variable");
            return NULL;
        }
        r->spaces[r->guards] = Py_NewRef(space);
        r->names[r->guards] = Py_XNewRef(name);
        r->values[r->guards] = Py_NewRef(PyTuple_GET_ITEM(values, i));
        r->guards++;
    }
    r->left = left;
    Py_RETURN_NONE;
}

/* Repeat(run, (kernel, stride, boxes, apart, starts, count, threads), fresh, end, tell, mask, inputs,
 * outputs, (name of the fold, type of its state, divisor), is_int): good for no run as yet. Inputs are (place in
 * the table, number of a leaf, -1) or (place, number of a number, type); outputs are (place or -1,
 * number of a sketch, shape, dtype, strides or None). */
static PyObject *
repeat_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *run, *call[7], *fresh, *end, *tell, *inputs, *outputs;
    long long mask;
    const char *fold;
    int fold_type, is_int;
    double divisor;
    if (!PyArg_ParseTuple(args, "O(OOOOOOO)OOOLO!O!(sid)p", &run, &call[0], &call[1], &call[2],
                          &call[3], &call[4], &call[5], &call[6], &fresh, &end, &tell, &mask, &PyTuple_Type,
                          &inputs, &PyTuple_Type, &outputs, &fold, &fold_type, &divisor, &is_int)) {
        return NULL;
    }
    Repeat *r = (Repeat *)type->tp_alloc(type, 0);
    if (r == NULL) {
        return NULL;
    }
    r->run = Py_NewRef(run);
    r->fresh = Py_NewRef(fresh);
    r->end = Py_NewRef(end);
    r->tell = Py_NewRef(tell);
    PyObject **own[] = {&r->kernel, &r->stride, &r->boxes, &r->apart, &r->starts, &r->count, &r->threads};
    for (int i = 0; i < 7; i++) {
        *own[i] = Py_NewRef(call[i]);
    }
    r->mask = mask;
    for (int i = 0; i < (int)(sizeof(FOLD_NAMES) / sizeof(*FOLD_NAMES)); i++) {
        r->fold = strcmp(fold, FOLD_NAMES[i]) == 0 ? i : r->fold;
    }
    r->fold_type = fold_type;
    r->divisor = divisor;
    r->is_int = is_int;
    if (parse_inputs(r, inputs) < 0 || parse_outputs(r, outputs) < 0) {
        Py_DECREF(r);
        return NULL;
    }
    return (PyObject *)r;
}

static int
repeat_traverse(PyObject *self, visitproc visit, void *arg)
{
    Repeat *r = (Repeat *)self;
    Py_VISIT(r->fresh);
    Py_VISIT(r->end);
    Py_VISIT(r->tell);
    Py_VISIT(r->origin);
    for (Spare *one = r->spare; one != NULL; one = one->next) {
        Py_VISIT(one->job);
    }
    for (int i = 0; i < r->guards; i++) {
        Py_VISIT(r->spaces[i]);
        Py_VISIT(r->values[i]);
    }
    return 0;
}

static int
repeat_clear(PyObject *self)
{
    Repeat *r = (Repeat *)self;
    r->left = 0;
    Py_CLEAR(r->fresh);
    Py_CLEAR(r->end);
    Py_CLEAR(r->tell);
    Py_CLEAR(r->origin);
    clear_guards(r);
    while (r->spare != NULL) {
        Spare *one = r->spare;
        r->spare = one->next;
        free_spare(one);
    }
    return 0;
}

static void
repeat_dealloc(PyObject *self)
{
    Repeat *r = (Repeat *)self;
    PyObject_GC_UnTrack(self);
    repeat_clear(self);
    PyObject *rest[] = {r->run,   r->kernel, r->stride, r->boxes,
                        r->apart, r->starts, r->count,  r->threads};
    for (int i = 0; i < 8; i++) {
        Py_XDECREF(rest[i]);
    }
    for (int i = 0; r->output != NULL && i < r->outputs + r->reduces; i++) {
        Py_XDECREF(r->output[i].descr);
    }
    PyMem_Free(r->input);
    PyMem_Free(r->output);
    Py_TYPE(self)->tp_free(self);
}

static PyMemberDef repeat_members[] = {
    {"left", T_LONG, offsetof(Repeat, left), 0, "How many more runs it is good for."},
    {NULL},
};

/* measured(): seconds that the kernel took lately, on the mean; None where it did not run. */
static PyObject *
repeat_measured(PyObject *self, PyObject *ignored)
{
    Repeat *r = (Repeat *)self;
    long timed = r->timed;
    double spent = r->spent;
    r->timed = 0;
    r->spent = r->quickest = 0;
    return timed == 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(spent / (double)timed);
}

static PyMethodDef repeat_methods[] = {
    {"measured", repeat_measured, METH_NOARGS, "Seconds that the kernel took since this was asked last."},
    {"renew", repeat_renew, METH_VARARGS, "Be good for so many runs while guards are as they are."},
    {NULL},
};

static PyTypeObject RepeatType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "dispatcharr.face._fastpath_c.Repeat",
    .tp_doc = "A kernel that is run again on other arrays.",
    .tp_basicsize = sizeof(Repeat),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = repeat_new,
    .tp_members = repeat_members,
    .tp_methods = repeat_methods,
    .tp_traverse = repeat_traverse,
    .tp_clear = repeat_clear,
    .tp_dealloc = repeat_dealloc,
};

static PyObject *
py_set_repeats(PyObject *module, PyObject *table)
{
    if (!PyDict_CheckExact(table)) {
        PyErr_SetString(PyExc_TypeError, "set_repeats: wanted a dict");
        return NULL;
    }
    Py_XSETREF(repeats, Py_NewRef(table));
    Py_RETURN_NONE;
}

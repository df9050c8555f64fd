/* The fast path: operators on small, concrete arrays at nearly the cost of NumPy's own.
 *
 * An array is a cell that holds either a concrete numpy.ndarray or a pending node. For an operator
 * on small concrete operands nothing is planned: the operator runs on the held arrays and the result
 * is put into a new cell. Everything else - pending values, large arrays, foreign operands, writes
 * while something is pending - is handed to the Python handler registered for the operator.
 *
 * Functions of NumPy's that are never planned are called here whatever the size of their arrays, as
 * long as nothing waits that may read them and nobody wants a record. They may write to what they
 * are given and keep it: references are counted before and after, as face/fallback.py does, which
 * answers the rest.
 *
 * The file knows no operator by name: slots are numbered, and the Python side (_fastpath.py) says which
 * handler and which size limit belongs to which number. Without this module, _fastpath.py serves the
 * same interface in Python, with the same meaning.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>
#include <numpy/ufuncobject.h>

#include "../storage/_handler.h"

typedef struct {
    PyObject_HEAD
    PyObject *value;    /* numpy.ndarray when concrete, anything else when pending, NULL when new */
    PyObject *origin;   /* how the value came to be, or NULL */
    PyObject *parent;   /* of a view the array whose value is the base of its value, or NULL */
    PyObject *weakrefs;
    unsigned short site;  /* where it was made, see `sites`; 0 where nobody asks */
    char standard;        /* whether operators give arrays where NumPy's give scalars */
} Cell;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *ufunc;
    PyObject *slow;
    int nin;
    int nout;
    int slot;
} Function;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *function; /* NumPy's own, called on concrete arrays */
    PyObject *slow;     /* called with the arguments as they came, for everything else */
    int slot;           /* whose limits hold for calls that only read, -1 where there are none */
    int masked;         /* the same for calls with `where` */
    int reads;          /* that many arguments by position are only read */
    int opaque;         /* whether it is never planned, however large the arrays */
    PyObject *first;    /* whom to ask about large arrays, NULL for nobody */
    int asks;           /* slot whose limits say about which; 0: what is contracted, see below */
    int modest;         /* how many calls on large arrays in a row had no large result, up to some */
    PyObject *dict;
    PyObject *weakrefs;
} Forward;

enum { SLOTS = 512, TYPES = NPY_HALF + 1 };  /* NPY_HALF is the last of the built-in type numbers */
/* Slot numbers; _fastpath.py repeats them as SLOT_NAMES, and checks the count. */
enum {
    S_ADD, S_SUBTRACT, S_MULTIPLY, S_TRUEDIV, S_FLOORDIV, S_MOD, S_POW, S_AND, S_OR, S_XOR,
    S_LSHIFT, S_RSHIFT,
    S_IADD, S_ISUBTRACT, S_IMULTIPLY, S_ITRUEDIV, S_IFLOORDIV, S_IMOD, S_IPOW, S_IAND, S_IOR,
    S_IXOR, S_ILSHIFT, S_IRSHIFT,
    S_NEG, S_POS, S_ABS, S_INVERT,
    S_LT, S_LE, S_EQ, S_NE, S_GT, S_GE,
    S_GETITEM, S_SETITEM, S_LEN, S_FORWARD,
    S_FIRST_FUNCTION
};

static PyObject *handlers[SLOTS];    /* called as handler(*operands) when the fast path declines */
/* Bytes of the result from which the fast path declines, by slot and dtype of the larger operand. */
static npy_intp limits[SLOTS][TYPES];
/* Whether that is what the prices say, and not the least that is worth asking them. */
static unsigned char priced[SLOTS][TYPES];
/* The same for results that are foreseen to be operands: bytes from which they are worth waiting for. */
static npy_intp chain_limits[SLOTS][TYPES];
static int closed = 0;               /* > 0: an override or recorder is active, decline everything */
static Py_ssize_t pending = 0;       /* roots and kernels that read: writes must be checked */
static Py_ssize_t shown_count = 0;   /* operations that wait on the tape, see _tape.h */
static struct Running *running = NULL; /* kernels that run, see _repeat.h */
static Py_ssize_t served = 0;        /* operations that the fast path has answered */
static PyTypeObject *array_type = NULL;
/* What face/fallback.py does, for calls that are left to NumPy here. */
static PyObject *listened = NULL;      /* whether somebody wants a record of them */
static PyObject *mark_foreign = NULL;  /* called with an array that NumPy kept */
static PyObject *finish = NULL;        /* called with results that are not understood here */

static PyTypeObject CellType;
static PyTypeObject FunctionType;
static PyTypeObject ForwardType;
static PyTypeObject MethodType;

#define IS_CELL(o) (Py_TYPE(o) == array_type)

static PyObject *memory = NULL;        /* what large results are allocated by (NumPy's NEP 49) */
static npy_intp from_bytes = NPY_MAX_INTP;  /* which those are */

/* Have results of so many bytes allocated by the pool, unless the program has a handler of its own;
 * `let_go` ends it. */
static inline PyObject *
hold(npy_intp bytes)
{
    if (bytes < from_bytes) {
        return NULL;
    }
    PyObject *before = set_handler(memory);
    if (before == NULL) {
        PyErr_Clear();  /* no memory for the context: NumPy's own handler does */
    }
    else if (before != PyDataMem_DefaultHandler && before != memory) {
        Py_XDECREF(set_handler(before));
        Py_CLEAR(before);
    }
    return before;
}

static inline void
let_go(PyObject *before)
{
    if (before == NULL) {
        return;
    }
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *ours = set_handler(before);
    if (ours == NULL) {
        PyErr_WriteUnraisable(before);
    }
    Py_XDECREF(ours);
    Py_DECREF(before);
    PyErr_Restore(type, value, trace);
}

static PyObject *
wrap(PyObject *value)
{
    /* Steals a reference to `value`; scalars and subclasses pass through untouched. */
    if (value == NULL || !PyArray_CheckExact(value)) {
        return value;
    }
    Cell *cell = (Cell *)array_type->tp_alloc(array_type, 0);
    if (cell == NULL) {
        Py_DECREF(value);
        return NULL;
    }
    cell->value = value;
    return (PyObject *)cell;
}

/* Note whose view a new array is; `given` is what it was made of. Returns `view`. */
static PyObject *
of_parent(PyObject *view, PyObject *given)
{
    if (view == NULL || !IS_CELL(view) || ((Cell *)view)->parent != NULL) {
        return view;
    }
    PyObject *value = ((Cell *)view)->value;
    PyObject *base = PyArray_CheckExact(value) ? PyArray_BASE((PyArrayObject *)value) : NULL;
    for (; base != NULL && given != NULL && IS_CELL(given); given = ((Cell *)given)->parent) {
        if (((Cell *)given)->value == base) {
            ((Cell *)view)->parent = Py_NewRef(given);
            break;
        }
    }
    return view;
}

/* The plain NumPy operand behind `o`, borrowed, or NULL when the fast path must decline. */
static inline PyObject *
plain(PyObject *o)
{
    if (IS_CELL(o)) {
        PyObject *value = ((Cell *)o)->value;
        return value != NULL && PyArray_CheckExact(value) ? value : NULL;
    }
    if (PyFloat_CheckExact(o) || PyLong_CheckExact(o) || PyArray_CheckExact(o) ||
        PyBool_Check(o) || PyComplex_CheckExact(o) || PyArray_IsScalar(o, Generic)) {
        return o;
    }
    return NULL;
}

static inline npy_intp
own_bytes(PyObject *o)
{
    return PyArray_CheckExact(o) ? PyArray_NBYTES((PyArrayObject *)o) : 0;
}

static inline npy_intp
limit_of(int slot, PyObject *x)
{
    int type = PyArray_CheckExact(x) ? PyArray_TYPE((PyArrayObject *)x) : NPY_OBJECT;
    return limits[slot][type >= 0 && type < TYPES ? type : NPY_OBJECT];
}

/* Of two operands the one with more bytes. */
static inline PyObject *
larger(PyObject *x, PyObject *y)
{
    return own_bytes(y) > own_bytes(x) ? y : x;
}

/* Whether pending work may read the memory of `x`. Operands of pending work up to the limit of
 * S_FORWARD were copied when it was recorded, so a small array that owns its memory is never read. */
static inline int
may_be_read(PyObject *x)
{
    return (pending || shown_count || running != NULL) && PyArray_CheckExact(x) &&
           (PyArray_BASE((PyArrayObject *)x) != NULL || own_bytes(x) > limits[S_FORWARD][0]);
}

/* ---- what is on a device -------------------------------------------------------------------------
 *
 * Arrays whose memory has a mirror on a device, by storage/places.py's count: their roots in a table
 * with open addresses. What is MIRRORED is not to be written here, and what is AWAY not to be read.
 * As long as no device is in use, a test of `placed` is all that it costs.
 */
enum { MIRRORED = 1, AWAY = 2 };
typedef struct {
    PyObject *root; /* never looked into: it may have died */
    int state;      /* 0 of one that was there */
} Place;
static Place *places = NULL;
static size_t places_size = 0;  /* a power of two */
static size_t places_used = 0;  /* entries that are taken, those of state 0 too */
static size_t placed = 0;       /* entries whose state is not 0 */
static size_t writes = 0;       /* writes to arrays that go on now */

static inline size_t
place_of(PyObject *root, Place *table, size_t size)
{
    size_t i = ((size_t)root >> 4) * (size_t)0x9E3779B97F4A7C15ull >> 7;
    while (table[i & (size - 1)].root != NULL && table[i & (size - 1)].root != root) {
        i++;
    }
    return i & (size - 1);
}

/* Make room for one more; -1 with an error. */
static int
grow_places(void)
{
    if (places_used * 2 < places_size) {
        return 0;
    }
    size_t size = 64;
    while (size < placed * 4) {
        size *= 2;
    }
    Place *table = PyMem_RawCalloc(size, sizeof(Place));
    if (table == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    places_used = 0;
    for (size_t i = 0; i < places_size; i++) {
        if (places[i].state) {
            table[place_of(places[i].root, table, size)] = places[i];
            places_used++;
        }
    }
    PyMem_RawFree(places);
    places = table;
    places_size = size;
    return 0;
}

#if defined(__GNUC__) || defined(__clang__)
#define ANY_PLACED __builtin_expect(placed != 0, 0)
#define COLD __attribute__((noinline, cold))
#else
#define ANY_PLACED (placed != 0)
#define COLD
#endif

/* The state of the memory of an array; AWAY where only Python can tell whose memory it is. */
COLD static int
state_of(PyObject *x)
{
    PyObject *base;
    while ((base = PyArray_BASE((PyArrayObject *)x)) != NULL) {
        if (!PyArray_Check(base)) {
            return AWAY;
        }
        x = base;
    }
    return places[place_of(x, places, places_size)].state;
}

static inline int
is_away(PyObject *x)
{
    return ANY_PLACED && PyArray_CheckExact(x) && state_of(x) == AWAY;
}

static inline int
is_placed(PyObject *x)
{
    return ANY_PLACED && PyArray_CheckExact(x) && state_of(x);
}

/* An upper bound of the bytes of the broadcast result of two operands. */
static inline npy_intp
result_bytes(PyObject *a, PyObject *b)
{
    if (!PyArray_CheckExact(a)) {
        return own_bytes(b);
    }
    if (!PyArray_CheckExact(b)) {
        return own_bytes(a);
    }
    PyArrayObject *x = (PyArrayObject *)a, *y = (PyArrayObject *)b;
    npy_intp bytes_a = PyArray_NBYTES(x), bytes_b = PyArray_NBYTES(y);
    npy_intp size_a = PyArray_SIZE(x), size_b = PyArray_SIZE(y);
    npy_intp most = bytes_a > bytes_b ? bytes_a : bytes_b;
    if (size_a <= 1 || size_b <= 1 ||
        (PyArray_NDIM(x) == PyArray_NDIM(y) &&
         PyArray_CompareLists(PyArray_DIMS(x), PyArray_DIMS(y), PyArray_NDIM(x)))) {
        return most;
    }
    if (size_a > NPY_MAX_INTP / 64 / size_b) {
        return NPY_MAX_INTP;
    }
    npy_intp item = bytes_a / size_a > bytes_b / size_b ? bytes_a / size_a : bytes_b / size_b;
    return size_a * size_b * item;
}

/* ---- foresight ---------------------------------------------------------------------------------
 *
 * An operation that is too short to be planned alone is worth planning when another one takes its
 * result. Which do, programs show by repeating themselves: results of middling size remember the
 * place in the program that made them, and when one is an operand, that place gains a point. From
 * SURE points on its operations are handed over to wait. A place whose result was then computed
 * alone loses more than it had gained. So does one whose statement has to be planned, the more the
 * more often: planning takes as long as many operations, and shapes may never come again.
 */
enum { SITES = 4096, SURE = 2, MOST = 4, MISTAKEN = -8, MOST_MISSES = 40, LEARNING = 2 };
typedef struct {
    size_t key;
    signed char score;
    unsigned char misses; /* how often what waited there had no plan yet */
} Site;
static Site sites[SITES];
static int foreseen = 0;  /* the number of the place whose operation is being handed over */

/* The number of the place in the program that is running, from 1 on; 0 outside of Python code. */
static int
site_here(void)
{
    PyFrameObject *frame = PyEval_GetFrame();
    if (frame == NULL) {
        return 0;
    }
    PyCodeObject *code = PyFrame_GetCode(frame);
    size_t key = (size_t)code / 16 + (size_t)PyFrame_GetLasti(frame) * 0x9e3779b1u + 1;
    Py_DECREF(code);
    size_t number = (key ^ key >> 12 ^ key >> 24) % SITES;
    if (sites[number].key != key) {
        sites[number] = (Site){key, 0, 0};
    }
    return (int)number + 1;
}

/* The place of an operation on so many bytes, where it is worth knowing. */
static inline int
site_of(int slot, PyObject *x, npy_intp bytes)
{
    if (!PyArray_CheckExact(x)) {
        return 0;
    }
    int type = PyArray_TYPE((PyArrayObject *)x);
    return type < TYPES && bytes >= chain_limits[slot][type] ? site_here() : 0;
}

/* Note that `o` is an operand. */
static inline void
note_operand(PyObject *o)
{
    if (IS_CELL(o) && ((Cell *)o)->site) {
        Site *site = &sites[((Cell *)o)->site - 1];
        site->score += site->score < MOST;
        ((Cell *)o)->site = 0;
    }
}

/* Have a concrete result remember where it was made. */
static inline PyObject *
made_at(int site, PyObject *result)
{
    if (site && result != NULL && IS_CELL(result) && ((Cell *)result)->value != NULL &&
        PyArray_CheckExact(((Cell *)result)->value)) {
        ((Cell *)result)->site = (unsigned short)site;
    }
    return result;
}

#include "_tape.h"
#include "_repeat.h"

/* Have a sketch computed, by the kernel that its like took where there is one; -1 with an error. */
static int
compute(PyObject *sketch)
{
    Py_INCREF(sketch);
    int done = repeat_sketch(sketch);
    if (done == 0) {
        PyObject *answer = PyObject_CallOneArg(run_hook, sketch);
        done = answer == NULL ? -1 : 1;
        Py_XDECREF(answer);
    }
    Py_DECREF(sketch);
    return done;
}
#include "_loops.h"
#include "_trials.h"

static PyObject *
decline(int slot, PyObject *a, PyObject *b)
{
    PyObject *handler = handlers[slot];
    if (handler == NULL) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *args[2] = {a, b};
    return PyObject_Vectorcall(handler, args, b == NULL ? 1 : 2, NULL);
}

/* Have an operation wait: on the tape if that can be, else where Python says. */
static PyObject *
defer(int slot, PyObject *a, PyObject *b)
{
    PyObject *const given[2] = {a, b};
    PyObject *made = sketch(slot, given, b == NULL ? 1 : 2, 0);
    return made != NULL || PyErr_Occurred() ? made : decline(slot, a, b);
}

/* Hand over an operation that would run here, because it is foreseen to have followers. */
static PyObject *
hand_over(int site, int slot, PyObject *a, PyObject *b)
{
    if (site && sites[site - 1].score >= SURE) {
        PyObject *const given[2] = {a, b};
        PyObject *made = sketch(slot, given, b == NULL ? 1 : 2, site);
        if (made != NULL || PyErr_Occurred()) {
            return made;
        }
    }
    foreseen = site && sites[site - 1].score >= SURE ? site : 0;
    PyObject *result = decline(slot, a, b);
    foreseen = 0;
    return made_at(site, result);
}

/* What NumPy gives for operands without axes is a scalar. If the array API's namespace made one of
 * them, it is an array again, and of that kind. */
COLD static PyObject *
without_axes(PyObject *result, PyObject *a, PyObject *b)
{
    if (result == NULL || !PyArray_IsScalar(result, Generic) ||
        !((IS_CELL(a) && ((Cell *)a)->standard) ||
          (b != NULL && IS_CELL(b) && ((Cell *)b)->standard))) {
        return result;
    }
    PyObject *made = wrap(PyArray_FromScalar(result, NULL));
    Py_DECREF(result);
    if (made != NULL && IS_CELL(made)) {
        ((Cell *)made)->standard = 1;
    }
    return made;
}

/* What an operator computed; asked of scalars alone, so that arrays pay nothing. */
static inline PyObject *
computed(PyObject *result, PyObject *a, PyObject *b)
{
    if (result != NULL && PyArray_CheckExact(result)) {
        return wrap(result);
    }
    return without_axes(result, a, b);
}

/* The same of what a handler in Python has answered. */
static inline PyObject *
answered(PyObject *result, PyObject *a, PyObject *b)
{
    return result != NULL && IS_CELL(result) ? result : without_axes(result, a, b);
}

typedef PyObject *(*binary)(PyObject *, PyObject *);
typedef PyObject *(*unary)(PyObject *);

static inline PyObject *
run_binary(int slot, binary operate, PyObject *a, PyObject *b)
{
    PyObject *x = plain(a), *y = plain(b);
    npy_intp bytes;
    note_operand(a);
    note_operand(b);
    if (x == NULL || y == NULL ||
        (bytes = result_bytes(x, y)) >= firm_limit(slot, larger(x, y))) {
        return answered(defer(slot, a, b), a, b);
    }
    if (bytes >= limit_of(slot, larger(x, y))) {
        PyObject *const given[2] = {a, b};
        PyObject *made = sketch(slot, given, 2, 0);
        if (made != NULL || PyErr_Occurred()) {
            return made;
        }
        x = plain(a);
        y = plain(b);
        if (x == NULL || y == NULL) {
            return answered(defer(slot, a, b), a, b);
        }
    }
    if (ANY_PLACED && (is_away(x) || is_away(y))) {
        return answered(decline(slot, a, b), a, b);
    }
    int site = site_of(slot, larger(x, y), bytes);
    if (closed || (site && sites[site - 1].score >= SURE)) {
        return answered(hand_over(site, slot, a, b), a, b);
    }
    if (is_due(slot, larger(x, y), bytes)) {
        PyObject *const given[2] = {a, b};
        if (try_out(slot, larger(x, y), bytes, NULL, given, 2, NULL) < 0) {
            return NULL;
        }
        return operate(a, b);
    }
    served++;
    /* The operator may run code of the program's, which may give the arrays other values. */
    Py_INCREF(x);
    Py_INCREF(y);
    PyObject *result = run_loop(slot, x, y);
    if (result == NULL && !PyErr_Occurred()) {
        PyObject *before = hold(bytes);
        result = operate(x, y);
        let_go(before);
    }
    Py_DECREF(x);
    Py_DECREF(y);
    return made_at(site, computed(result, a, b));
}

static inline PyObject *
run_inplace(int slot, binary operate, PyObject *a, PyObject *b)
{
    PyObject *x = plain(a), *y = plain(b);
    note_operand(b);
    if (x == NULL && shows_sketch(a)) {
        int done = sketch_further(slot - S_IADD, a, b);
        if (done) {
            return done < 0 ? NULL : Py_NewRef(a);
        }
    }
    if (x == NULL || y == NULL || closed || may_be_read(x) ||
        result_bytes(x, y) >= firm_limit(slot, larger(x, y))) {
        return decline(slot, a, b);
    }
    if (ANY_PLACED && (is_placed(x) || is_away(y))) {
        return decline(slot, a, b);
    }
    served++;
    Py_INCREF(x);
    Py_INCREF(y);
    writes++;
    PyObject *result = operate(x, y);
    writes--;
    int is_same = result == x;
    Py_DECREF(x);
    Py_DECREF(y);
    if (is_same) {
        Py_DECREF(result);
        return Py_NewRef(a);
    }
    return wrap(result);
}

static inline PyObject *
run_unary(int slot, unary operate, PyObject *a)
{
    PyObject *x = plain(a);
    note_operand(a);
    if (x == NULL || own_bytes(x) >= firm_limit(slot, x) || is_away(x)) {
        return answered(defer(slot, a, NULL), a, NULL);
    }
    if (own_bytes(x) >= limit_of(slot, x)) {
        PyObject *made = sketch(slot, &a, 1, 0);
        if (made != NULL || PyErr_Occurred()) {
            return made;
        }
        x = plain(a);
        if (x == NULL) {
            return answered(defer(slot, a, NULL), a, NULL);
        }
    }
    int site = site_of(slot, x, own_bytes(x));
    if (closed || (site && sites[site - 1].score >= SURE)) {
        return answered(hand_over(site, slot, a, NULL), a, NULL);
    }
    if (is_due(slot, x, own_bytes(x))) {
        if (try_out(slot, x, own_bytes(x), NULL, &a, 1, NULL) < 0) {
            return NULL;
        }
        return operate(a);
    }
    served++;
    Py_INCREF(x);
    PyObject *result = run_loop(slot, x, NULL);
    if (result == NULL && !PyErr_Occurred()) {
        PyObject *before = hold(own_bytes(x));
        result = operate(x);
        let_go(before);
    }
    Py_DECREF(x);
    return made_at(site, computed(result, a, NULL));
}

static PyObject *power2(PyObject *a, PyObject *b) { return PyNumber_Power(a, b, Py_None); }
static PyObject *ipower2(PyObject *a, PyObject *b) { return PyNumber_InPlacePower(a, b, Py_None); }

#define BINARY(name, slot, operate) \
    static PyObject *name(PyObject *a, PyObject *b) { return run_binary(slot, operate, a, b); }
#define INPLACE(name, slot, operate) \
    static PyObject *name(PyObject *a, PyObject *b) { return run_inplace(slot, operate, a, b); }
#define UNARY(name, slot, operate) \
    static PyObject *name(PyObject *a) { return run_unary(slot, operate, a); }

BINARY(cell_add, S_ADD, PyNumber_Add)
BINARY(cell_subtract, S_SUBTRACT, PyNumber_Subtract)
BINARY(cell_multiply, S_MULTIPLY, PyNumber_Multiply)
BINARY(cell_truediv, S_TRUEDIV, PyNumber_TrueDivide)
BINARY(cell_floordiv, S_FLOORDIV, PyNumber_FloorDivide)
BINARY(cell_mod, S_MOD, PyNumber_Remainder)
BINARY(cell_and, S_AND, PyNumber_And)
BINARY(cell_or, S_OR, PyNumber_Or)
BINARY(cell_xor, S_XOR, PyNumber_Xor)
BINARY(cell_lshift, S_LSHIFT, PyNumber_Lshift)
BINARY(cell_rshift, S_RSHIFT, PyNumber_Rshift)
INPLACE(cell_iadd, S_IADD, PyNumber_InPlaceAdd)
INPLACE(cell_isubtract, S_ISUBTRACT, PyNumber_InPlaceSubtract)
INPLACE(cell_imultiply, S_IMULTIPLY, PyNumber_InPlaceMultiply)
INPLACE(cell_itruediv, S_ITRUEDIV, PyNumber_InPlaceTrueDivide)
INPLACE(cell_ifloordiv, S_IFLOORDIV, PyNumber_InPlaceFloorDivide)
INPLACE(cell_imod, S_IMOD, PyNumber_InPlaceRemainder)
INPLACE(cell_iand, S_IAND, PyNumber_InPlaceAnd)
INPLACE(cell_ior, S_IOR, PyNumber_InPlaceOr)
INPLACE(cell_ixor, S_IXOR, PyNumber_InPlaceXor)
INPLACE(cell_ilshift, S_ILSHIFT, PyNumber_InPlaceLshift)
INPLACE(cell_irshift, S_IRSHIFT, PyNumber_InPlaceRshift)
UNARY(cell_neg, S_NEG, PyNumber_Negative)
UNARY(cell_pos, S_POS, PyNumber_Positive)
UNARY(cell_abs, S_ABS, PyNumber_Absolute)
UNARY(cell_invert, S_INVERT, PyNumber_Invert)

static PyObject *
cell_power(PyObject *a, PyObject *b, PyObject *modulus)
{
    if (modulus != Py_None) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return run_binary(S_POW, power2, a, b);
}

static PyObject *
cell_ipower(PyObject *a, PyObject *b, PyObject *modulus)
{
    if (modulus != Py_None) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return run_inplace(S_IPOW, ipower2, a, b);
}

static PyObject *compare_lt(PyObject *a, PyObject *b) { return PyObject_RichCompare(a, b, Py_LT); }
static PyObject *compare_le(PyObject *a, PyObject *b) { return PyObject_RichCompare(a, b, Py_LE); }
static PyObject *compare_eq(PyObject *a, PyObject *b) { return PyObject_RichCompare(a, b, Py_EQ); }
static PyObject *compare_ne(PyObject *a, PyObject *b) { return PyObject_RichCompare(a, b, Py_NE); }
static PyObject *compare_gt(PyObject *a, PyObject *b) { return PyObject_RichCompare(a, b, Py_GT); }
static PyObject *compare_ge(PyObject *a, PyObject *b) { return PyObject_RichCompare(a, b, Py_GE); }

static PyObject *
cell_richcompare(PyObject *a, PyObject *b, int op)
{
    switch (op) {
    case Py_LT: return run_binary(S_LT, compare_lt, a, b);
    case Py_LE: return run_binary(S_LE, compare_le, a, b);
    case Py_EQ: return run_binary(S_EQ, compare_eq, a, b);
    case Py_NE: return run_binary(S_NE, compare_ne, a, b);
    case Py_GT: return run_binary(S_GT, compare_gt, a, b);
    default: return run_binary(S_GE, compare_ge, a, b);
    }
}

/* Keys that NumPy understands without our help; a concrete array as key is unwrapped. */
static inline int
simple_item(PyObject *key)
{
    return PyLong_CheckExact(key) || PySlice_Check(key) || key == Py_None || key == Py_Ellipsis;
}

static PyObject *
simple_key(PyObject *key)
{
    if (simple_item(key)) {
        return key;
    }
    if (PyTuple_CheckExact(key)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); i++) {
            if (!simple_item(PyTuple_GET_ITEM(key, i))) {
                return NULL;
            }
        }
        return key;
    }
    return IS_CELL(key) ? plain(key) : NULL;
}

/* How many times its limit a mask is long enough for Python to look at it in any case; of shorter
 * ones the beginning of some parts is looked at here, and how often that changes. */
enum { LONG_MASK = 40, PARTS = 4, PART = 64, CHANGES = 16 };

/* Whether an array that is a key is worth a look: NumPy is slow with masks that change often. */
static int
is_long_key(PyObject *k)
{
    npy_intp size = own_bytes(k), limit = limit_of(S_GETITEM, k);
    if (size < limit || !PyArray_ISBOOL((PyArrayObject *)k) || size / LONG_MASK >= limit ||
        size < PARTS * PART || !PyArray_IS_C_CONTIGUOUS((PyArrayObject *)k)) {
        return size >= limit;
    }
    const char *mask = PyArray_BYTES((PyArrayObject *)k);
    int changes = 0;
    for (int part = 0; part < PARTS; part++) {
        const char *here = mask + size / PARTS * part;
        for (int i = 1; i < PART; i++) {
            changes += here[i] != here[i - 1];
        }
    }
    return changes >= CHANGES;
}

static PyObject *
cell_getitem(PyObject *self, PyObject *key)
{
    PyObject *x = plain(self), *k = simple_key(key);
    /* A record of a structured array is a view of it: the handler notes that. */
    if (x == NULL || k == NULL || closed || PyArray_TYPE((PyArrayObject *)x) == NPY_VOID ||
        (k != key && is_long_key(k)) ||
        (ANY_PLACED && (is_away(x) || is_away(k)))) {
        return decline(S_GETITEM, self, key);
    }
    served++;
    Py_INCREF(x);
    PyObject *result = PyObject_GetItem(x, k);
    Py_DECREF(x);
    return of_parent(wrap(result), self);
}

static PyObject *
cell_item(PyObject *self, Py_ssize_t i)
{
    PyObject *key = PyLong_FromSsize_t(i);
    if (key == NULL) {
        return NULL;
    }
    PyObject *result = cell_getitem(self, key);
    Py_DECREF(key);
    return result;
}

/* For versions of Python whose classes cannot define __buffer__. */
static int
cell_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    PyObject *lent = PyObject_CallMethod(self, "_lent", "i", flags);
    if (lent == NULL) {
        view->obj = NULL;
        return -1;
    }
    Py_buffer *inner = PyMem_Malloc(sizeof(Py_buffer));
    if (inner == NULL) {
        PyErr_NoMemory();
    }
    else if (PyObject_GetBuffer(lent, inner, flags) == 0) {
        /* Whoever asks whose memory it is hears of the array. */
        *view = *inner;
        view->obj = Py_NewRef(self);
        view->internal = inner;
        Py_DECREF(lent);
        return 0;
    }
    view->obj = NULL;
    PyMem_Free(inner);
    Py_DECREF(lent);
    return -1;
}

/* Whether `key` names an element of an array of objects, which is to be the very object given. */
static inline int
holds_whole(PyObject *x, PyObject *key)
{
    if (PyArray_TYPE((PyArrayObject *)x) != NPY_OBJECT) {
        return 0;
    }
    if (!PyTuple_CheckExact(key)) {
        return PyLong_Check(key) || PyArray_IsScalar(key, Integer);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(key); i++) {
        PyObject *one = PyTuple_GET_ITEM(key, i);
        if (!PyLong_Check(one) && !PyArray_IsScalar(one, Integer)) {
            return 0;
        }
    }
    return PyTuple_GET_SIZE(key) > 0;
}

static int
cell_setitem(PyObject *self, PyObject *key, PyObject *item)
{
    if (item == NULL) {
        PyErr_SetString(PyExc_ValueError, "cannot delete array elements");
        return -1;
    }
    PyObject *x = plain(self), *k = simple_key(key), *v = plain(item);
    if (IS_CELL(item) && x != NULL && holds_whole(x, key)) {
        v = item;
    }
    if (!closed && x != NULL && k != NULL && v != NULL && !may_be_read(x) &&
        own_bytes(v) < limit_of(S_SETITEM, v) &&
        !(ANY_PLACED && (is_placed(x) || is_away(k) || is_away(v)))) {
        served++;
        Py_INCREF(x);
        Py_INCREF(v);
        writes++;
        int done = PyObject_SetItem(x, k, v);
        writes--;
        Py_DECREF(x);
        Py_DECREF(v);
        return done;
    }
    PyObject *args[3] = {self, key, item};
    PyObject *result = PyObject_Vectorcall(handlers[S_SETITEM], args, 3, NULL);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static Py_ssize_t
cell_length(PyObject *self)
{
    PyObject *x = plain(self);
    if (x != NULL) {
        return PyObject_Length(x);
    }
    PyObject *result = decline(S_LEN, self, NULL);
    if (result == NULL) {
        return -1;
    }
    Py_ssize_t length = PyLong_AsSsize_t(result);
    Py_DECREF(result);
    return length;
}

static void
cell_dealloc(PyObject *self)
{
    Cell *cell = (Cell *)self;
    PyTypeObject *type = Py_TYPE(self);
    let_value_go(cell); /* first of all: what is told of the end may look for who shows sketches */
    if (cell->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    Py_XDECREF(cell->value);
    Py_XDECREF(cell->origin);
    Py_XDECREF(cell->parent);
    type->tp_free(self);
    if (type->tp_flags & Py_TPFLAGS_HEAPTYPE && type == &CellType) {
        Py_DECREF(type);
    }
}

static PyNumberMethods cell_number = {
    .nb_add = cell_add,
    .nb_subtract = cell_subtract,
    .nb_multiply = cell_multiply,
    .nb_true_divide = cell_truediv,
    .nb_floor_divide = cell_floordiv,
    .nb_remainder = cell_mod,
    .nb_power = cell_power,
    .nb_and = cell_and,
    .nb_or = cell_or,
    .nb_xor = cell_xor,
    .nb_lshift = cell_lshift,
    .nb_rshift = cell_rshift,
    .nb_inplace_add = cell_iadd,
    .nb_inplace_subtract = cell_isubtract,
    .nb_inplace_multiply = cell_imultiply,
    .nb_inplace_true_divide = cell_itruediv,
    .nb_inplace_floor_divide = cell_ifloordiv,
    .nb_inplace_remainder = cell_imod,
    .nb_inplace_power = cell_ipower,
    .nb_inplace_and = cell_iand,
    .nb_inplace_or = cell_ior,
    .nb_inplace_xor = cell_ixor,
    .nb_inplace_lshift = cell_ilshift,
    .nb_inplace_rshift = cell_irshift,
    .nb_negative = cell_neg,
    .nb_positive = cell_pos,
    .nb_absolute = cell_abs,
    .nb_invert = cell_invert,
};

static PyMappingMethods cell_mapping = {
    .mp_length = cell_length,
    .mp_subscript = cell_getitem,
    .mp_ass_subscript = cell_setitem,
};

static int
cell_assign_item(PyObject *self, Py_ssize_t i, PyObject *item)
{
    PyObject *key = PyLong_FromSsize_t(i);
    if (key == NULL) {
        return -1;
    }
    int done = cell_setitem(self, key, item);
    Py_DECREF(key);
    return done;
}

/* bisect and its like ask for items by position, as of a list; extensions also assign so. */
static PySequenceMethods cell_sequence = {
    .sq_length = cell_length,
    .sq_item = cell_item,
    .sq_ass_item = cell_assign_item,
};

/* Of those who have this numpy.frombuffer holds the buffer, and not the array alone. */
static void
cell_releasebuffer(PyObject *self, Py_buffer *view)
{
    PyBuffer_Release((Py_buffer *)view->internal);
    PyMem_Free(view->internal);
}

static PyBufferProcs cell_buffer = {
    .bf_getbuffer = cell_getbuffer,
    .bf_releasebuffer = cell_releasebuffer,
};

static PyObject *cell_array_ufunc(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);

static PyMethodDef cell_methods[] = {
    {"__array_ufunc__", (PyCFunction)(void (*)(void))cell_array_ufunc,
     METH_FASTCALL | METH_KEYWORDS,
     "__array_ufunc__($self, ufunc, method, /, *inputs, **kwargs)\n--\n\n"
     "NumPy's protocol for its ufuncs."},
    {NULL},
};

static PyMemberDef cell_members[] = {
    {"_origin", T_OBJECT, offsetof(Cell, origin), 0, NULL},
    {"_parent", T_OBJECT, offsetof(Cell, parent), 0, NULL},
    {"_standard", T_BOOL, offsetof(Cell, standard), 0, NULL},
    {NULL},
};

/* Modules whose functions are asked about, by `believed`, before they learn of what class an array
 * is: some take NumPy's own arrays alone, and know them by their class. */
static PyObject *asking = NULL;
static PyObject *believed = NULL;
static PyObject *name_of_module = NULL;

static PyObject *
cell_get_class(Cell *self, void *closure)
{
    PyObject *globals = asking == NULL ? NULL : PyEval_GetGlobals();
    PyObject *name = globals == NULL ? NULL : PyDict_GetItemWithError(globals, name_of_module);
    if (name == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_TYPE(self));
    }
    int is_asking = PyUnicode_CheckExact(name) ? PySet_Contains(asking, name) : 0;
    if (is_asking < 0) {
        return NULL;
    }
    return is_asking ? PyObject_CallOneArg(believed, (PyObject *)self) : Py_NewRef(Py_TYPE(self));
}

static int
cell_set_class(Cell *self, PyObject *value, void *closure)
{
    PyErr_SetString(PyExc_TypeError,
                    "__class__ assignment only supported for mutable types or ModuleType subclasses");
    return -1;
}

static PyGetSetDef cell_getset[] = {
    {"__class__", (getter)cell_get_class, (setter)cell_set_class, "The class.", NULL},
    {"_form", cell_get_form, NULL, "What says the shape and dtype, computed or not.", NULL},
    {"_value", cell_get_value, cell_set_value, "A numpy.ndarray or a pending node.", NULL},
    {NULL},
};

static PyTypeObject CellType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "dispatcharr.face._fastpath_c.Cell",
    .tp_doc = "A concrete numpy.ndarray or a pending node.",
    .tp_basicsize = sizeof(Cell),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_weaklistoffset = offsetof(Cell, weakrefs),
    .tp_members = cell_members,
    .tp_getset = cell_getset,
    .tp_methods = cell_methods,
    .tp_as_number = &cell_number,
    .tp_as_mapping = &cell_mapping,
    .tp_as_sequence = &cell_sequence,
    .tp_as_buffer = &cell_buffer,
    .tp_richcompare = cell_richcompare,
    .tp_hash = PyObject_HashNotImplemented,
    .tp_dealloc = cell_dealloc,
    .tp_new = PyType_GenericNew,
};

/* ---- calls of NumPy's functions ---------------------------------------------------------------- */

enum { MOST_ARGUMENTS = 8, MOST_ARRAYS = 32, DEEPEST = 8 };
/* What NumPy says of an object whose __array__ returns no array of NumPy's. */
#define NOT_NUMPYS "object __array__ method not producing an array"

static inline int
is_keyword(PyObject *kwnames, Py_ssize_t i, const char *name)
{
    return PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, i), name) == 0;
}

/* An array among the arguments of a call. What NumPy still refers to after the call, it kept. */
typedef struct {
    PyObject *given; /* what the program handed over */
    PyObject *host;  /* what NumPy gets */
    PyObject *root;  /* the array that owns the memory, where it is watched, else NULL */
    Py_ssize_t hosts, roots; /* references before the call */
} Argument;

/* PURE: the arrays are only read, and are the program's alone. SMALL: what is large is somebody
 * else's to answer. ANY: whatever their size, the function may write to the arrays and keep them. */
enum { PURE, SMALL, ANY };

/* A call whose arguments were made NumPy's; it holds references to all of them. */
typedef struct {
    int way;
    int is_large;
    int is_watched;
    int is_strange; /* among the arguments is something that may do anything with the others */
    Py_ssize_t total;
    PyObject *plain[MOST_ARGUMENTS];
    int count;
    Argument arrays[MOST_ARRAYS];
} Call;

static inline int
is_large(PyObject *host)
{
    return own_bytes(host) > limits[S_FORWARD][0];
}

/* The array at the end of the chain of bases, NULL where it ends in what is no array. */
static PyObject *
root_of(PyObject *host)
{
    PyObject *base;
    while ((base = PyArray_BASE((PyArrayObject *)host)) != NULL) {
        if (!PyArray_Check(base)) {
            return NULL;
        }
        host = base;
    }
    return host;
}

/* Whether a list or tuple, or one inside it, holds an array of ours or their class. */
static int
holds_cell(PyObject *o, int depth)
{
    int is_list = PyList_CheckExact(o);
    if (!is_list && !PyTuple_CheckExact(o)) {
        return 0;
    }
    Py_ssize_t n = is_list ? PyList_GET_SIZE(o) : PyTuple_GET_SIZE(o);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = is_list ? PyList_GET_ITEM(o, i) : PyTuple_GET_ITEM(o, i);
        if (IS_CELL(item) || item == (PyObject *)array_type ||
            (depth < DEEPEST && holds_cell(item, depth + 1))) {
            return 1;
        }
    }
    return 0;
}

/* Add an array to those of a call; 0 to decline. */
static int
note(Call *call, PyObject *given, PyObject *host)
{
    PyObject *root = NULL;
    if (host == NULL || call->count == MOST_ARRAYS) {
        return 0;
    }
    if (ANY_PLACED && (call->way == PURE ? is_away(host) : is_placed(host))) {
        return 0;
    }
    if (call->way != PURE && IS_CELL(given)) {
        int large = is_large(host);
        if (may_be_read(host) || (large && call->way == SMALL)) {
            return 0;
        }
        if (call->way == ANY) {
            root = root_of(host);
            if (root == NULL && large) {
                return 0;
            }
            if (root != NULL && !is_large(root)) {
                root = NULL;
            }
        }
        call->is_large |= large;
        call->is_watched |= root != NULL;
    }
    Argument *one = &call->arrays[call->count++];
    one->given = Py_NewRef(given);
    one->host = Py_NewRef(host);
    one->root = Py_XNewRef(root);
    return 1;
}

/* A copy of a flat list or tuple with its arrays unwrapped, NULL without an error to decline. */
static PyObject *
unwrapped(Call *call, PyObject *o)
{
    int is_list = PyList_CheckExact(o);
    Py_ssize_t n = is_list ? PyList_GET_SIZE(o) : PyTuple_GET_SIZE(o);
    PyObject *made = is_list ? PyList_New(n) : PyTuple_New(n);
    if (made == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = is_list ? PyList_GET_ITEM(o, i) : PyTuple_GET_ITEM(o, i);
        if (IS_CELL(item)) {
            PyObject *host = plain(item);
            item = note(call, item, host) ? host : NULL;
        }
        else if (PyList_CheckExact(item) || PyTuple_CheckExact(item)) {
            item = NULL;
        }
        else if (item == (PyObject *)array_type) {
            item = (PyObject *)&PyArray_Type;
        }
        if (item == NULL) {
            Py_DECREF(made);
            return NULL;
        }
        Py_INCREF(item);
        if (is_list) {
            PyList_SET_ITEM(made, i, item);
        }
        else {
            PyTuple_SET_ITEM(made, i, item);
        }
    }
    return made;
}

/* Whether NumPy runs no code of the program's for such an argument, beyond that of elements. */
static inline int
is_familiar(PyObject *o)
{
    return plain(o) != NULL || o == Py_None || o == Py_Ellipsis || PyUnicode_CheckExact(o) ||
           PyType_Check(o) || PyArray_DescrCheck(o) || PySlice_Check(o) || PyList_CheckExact(o) ||
           PyTuple_CheckExact(o);
}

/* Whether an argument is the dtype of objects: then lists hold what is to be kept as it is. */
static inline int
is_object_dtype(PyObject *o)
{
    return o == (PyObject *)&PyBaseObject_Type ||
           (PyArray_DescrCheck(o) && ((PyArray_Descr *)o)->type_num == NPY_OBJECT) ||
           (PyUnicode_CheckExact(o) && (PyUnicode_CompareWithASCIIString(o, "O") == 0 ||
                                        PyUnicode_CompareWithASCIIString(o, "object") == 0));
}

/* Note what NumPy returns as it was given: NumPy arrays by the name of `out`. */
static int
note_outs(Call *call, PyObject *out)
{
    if (PyArray_CheckExact(out)) {
        return note(call, out, out);
    }
    for (Py_ssize_t i = 0; PyTuple_CheckExact(out) && i < PyTuple_GET_SIZE(out); i++) {
        PyObject *one = PyTuple_GET_ITEM(out, i);
        if (PyArray_CheckExact(one) && !note(call, one, one)) {
            return 0;
        }
    }
    return 1;
}

/* Make the arguments of a call NumPy's; 0 to decline. What was gathered has to be released. */
static int
gather(Call *call, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t total = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    call->total = call->count = call->is_large = call->is_watched = call->is_strange = 0;
    if (total > MOST_ARGUMENTS) {
        return 0;
    }
    int wants_objects = 0;
    for (Py_ssize_t i = 1; i < total; i++) {
        wants_objects |= is_object_dtype(args[i]);
    }
    for (Py_ssize_t i = 0; i < total; i++) {
        PyObject *o = args[i];
        if (IS_CELL(o)) {
            PyObject *host = plain(o);
            if (!note(call, o, host)) {
                return 0;
            }
            o = Py_NewRef(host);
        }
        else if (PyDict_Check(o)) {
            return 0;
        }
        else if (holds_cell(o, 0)) {
            if (wants_objects) {
                return 0;
            }
            o = unwrapped(call, o);
            if (o == NULL) {
                return 0;
            }
        }
        else if (o == (PyObject *)array_type) {
            o = Py_NewRef(&PyArray_Type);
        }
        else {
            call->is_strange |= !is_familiar(o);
            Py_INCREF(o);
        }
        call->plain[call->total++] = o;
        if (i >= nargs && is_keyword(kwnames, i - nargs, "out") && !note_outs(call, args[i])) {
            return 0;
        }
    }
    return !(call->is_strange && (call->is_large || call->is_watched));
}

static void
release(Call *call)
{
    while (call->total > 0) {
        Py_DECREF(call->plain[--call->total]);
    }
    while (call->count > 0) {
        Argument *one = &call->arrays[--call->count];
        Py_DECREF(one->given);
        Py_DECREF(one->host);
        Py_XDECREF(one->root);
    }
}

/* Whether somebody wants a record of a call that is left to NumPy; an error counts as one. */
static int
is_heard(void)
{
    PyObject *answer = listened == NULL ? NULL : PyObject_CallNoArgs(listened);
    int heard = answer != Py_False;
    Py_XDECREF(answer);
    return heard;
}

/* How many references to `array` the result of a call holds. */
static Py_ssize_t
explained(PyObject *result, PyObject *array, int depth)
{
    if (PyArray_CheckExact(result)) {
        return (result == array) + (PyArray_BASE((PyArrayObject *)result) == array);
    }
    Py_ssize_t found = 0;
    if (depth < DEEPEST && (PyList_Check(result) || PyTuple_Check(result))) {
        int is_list = PyList_Check(result);
        Py_ssize_t n = is_list ? PyList_GET_SIZE(result) : PyTuple_GET_SIZE(result);
        for (Py_ssize_t i = 0; i < n; i++) {
            PyObject *item = is_list ? PyList_GET_ITEM(result, i) : PyTuple_GET_ITEM(result, i);
            found += explained(item, array, depth + 1);
        }
    }
    return found;
}

/* Mark as foreign the arguments that the function kept; -1 with an error. */
static int
mark_kept(Call *call, PyObject *result)
{
    for (int i = 0; i < call->count; i++) {
        Argument *one = &call->arrays[i];
        if (one->root == NULL) {
            continue;
        }
        Py_ssize_t hosts = Py_REFCNT(one->host) - one->hosts;
        Py_ssize_t roots = Py_REFCNT(one->root) - one->roots;
        if ((hosts > 0 && hosts > explained(result, one->host, 0)) ||
            (roots > 0 && roots > explained(result, one->root, 0))) {
            PyObject *marked = PyObject_CallOneArg(mark_foreign, one->host);
            if (marked == NULL) {
                return -1;
            }
            Py_DECREF(marked);
        }
    }
    return 0;
}

/* Whether a result of more than a few bytes needs no more than to be wrapped: it views an argument
 * that is watched, or nobody else holds it; `holders` do. */
static int
is_own_result(Call *call, PyObject *result, Py_ssize_t holders)
{
    PyObject *root = root_of(result);
    for (int i = 0; root != NULL && i < call->count; i++) {
        if (call->arrays[i].root == root) {
            return 1;
        }
    }
    int is_fresh = root != NULL && Py_REFCNT(result) == holders;
    while (is_fresh && result != root) {
        result = PyArray_BASE((PyArrayObject *)result);
        is_fresh = Py_REFCNT(result) == 1;
    }
    return is_fresh;
}

/* Whether a result holds neither arrays nor anything else that would have to be looked at. */
static int
is_no_array(PyObject *o, int depth)
{
    if (o == Py_None || PyFloat_CheckExact(o) || PyLong_CheckExact(o) || PyBool_Check(o) ||
        PyComplex_CheckExact(o) || PyUnicode_Check(o) || PyBytes_CheckExact(o) ||
        PyArray_IsScalar(o, Generic)) {
        return 1;
    }
    int is_list = PyList_CheckExact(o);
    if ((!is_list && !PyTuple_CheckExact(o)) || depth == DEEPEST) {
        return 0;
    }
    Py_ssize_t n = is_list ? PyList_GET_SIZE(o) : PyTuple_GET_SIZE(o);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (!is_no_array(is_list ? PyList_GET_ITEM(o, i) : PyTuple_GET_ITEM(o, i), depth + 1)) {
            return 0;
        }
    }
    return 1;
}

/* Have Python look at a result, and tell it of the arguments; steals a reference. */
static PyObject *
finished(Call *call, PyObject *result)
{
    PyObject *ours = PyDict_New(), *roots = PySet_New(NULL), *made = NULL;
    int done = ours != NULL && roots != NULL;
    for (int i = 0; done && i < call->count; i++) {
        Argument *one = &call->arrays[i];
        PyObject *key = PyLong_FromVoidPtr(one->host);
        done = key != NULL && PyDict_SetItem(ours, key, one->given) == 0;
        Py_XDECREF(key);
        if (done && one->root != NULL) {
            key = PyLong_FromVoidPtr(one->root);
            done = key != NULL && PySet_Add(roots, key) == 0;
            Py_XDECREF(key);
        }
    }
    if (done) {
        made = PyObject_CallFunctionObjArgs(finish, result, ours, roots, NULL);
    }
    Py_XDECREF(ours);
    Py_XDECREF(roots);
    Py_DECREF(result);
    return made;
}

static PyObject *shown_each(Call *call, PyObject *results);

/* A result as the program gets it; steals a reference. `holders` refer to the result. */
static PyObject *
shown(Call *call, PyObject *result, Py_ssize_t holders)
{
    if (PyArray_CheckExact(result)) {
        for (int i = 0; i < call->count; i++) {
            if (call->arrays[i].host == result) {
                Py_DECREF(result);
                return Py_NewRef(call->arrays[i].given);
            }
        }
        if (call->way == PURE || !is_large(result) || is_own_result(call, result, holders)) {
            PyObject *made = wrap(result);
            for (int i = 0; i < call->count; i++) {
                of_parent(made, call->arrays[i].given);
            }
            return made;
        }
    }
    else if (is_no_array(result, 0)) {
        return result;
    }
    else if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
        return shown_each(call, result);
    }
    return finished(call, result);
}

static PyObject *
shown_each(Call *call, PyObject *results)
{
    int is_list = PyList_CheckExact(results);
    Py_ssize_t n = is_list ? PyList_GET_SIZE(results) : PyTuple_GET_SIZE(results);
    PyObject *made = NULL;
    if (Py_EnterRecursiveCall(" while a result was wrapped") == 0) {
        made = is_list ? PyList_New(n) : PyTuple_New(n);
        for (Py_ssize_t i = 0; made != NULL && i < n; i++) {
            PyObject *one = is_list ? PyList_GET_ITEM(results, i) : PyTuple_GET_ITEM(results, i);
            one = shown(call, Py_NewRef(one), 2);
            if (one == NULL) {
                Py_CLEAR(made);
            }
            else if (is_list) {
                PyList_SET_ITEM(made, i, one);
            }
            else {
                PyTuple_SET_ITEM(made, i, one);
            }
        }
        Py_LeaveRecursiveCall();
    }
    Py_DECREF(results);
    return made;
}

/* Call NumPy's function with what was gathered, and release that. */
static PyObject *
perform(Call *call, PyObject *function, Py_ssize_t nargs, PyObject *kwnames)
{
    for (int i = 0; i < call->count; i++) {
        Argument *one = &call->arrays[i];
        if (one->root != NULL) {
            one->hosts = Py_REFCNT(one->host);
            one->roots = Py_REFCNT(one->root);
        }
    }
    /* Arrays of NumPy's too: a copy of one is large where it is. */
    npy_intp most = 0;
    for (Py_ssize_t i = 0; i < call->total; i++) {
        most += own_bytes(call->plain[i]);
    }
    for (int i = 0; i < call->count; i++) {
        most += own_bytes(call->arrays[i].host);
    }
    PyObject *before = hold(most);
    writes += call->way != PURE;
    PyObject *result = PyObject_Vectorcall(function, call->plain, nargs, kwnames);
    writes -= call->way != PURE;
    let_go(before);
    if (result != NULL && call->is_watched && mark_kept(call, result) < 0) {
        Py_CLEAR(result);
    }
    if (result != NULL) {
        result = shown(call, result, 1);
    }
    release(call);
    return result;
}

/* Whether NumPy refused an object because its __array__ returned an array of ours; the error is then
 * cleared, and Python calls again. */
static int
is_of_ours(void)
{
    if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
        return 0;
    }
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *text = value == NULL ? NULL : PyObject_Str(value);
    int is_it = text != NULL && PyUnicode_CompareWithASCIIString(text, NOT_NUMPYS) == 0;
    Py_XDECREF(text);
    PyErr_Restore(type, value, trace);
    if (is_it) {
        PyErr_Clear();
    }
    return is_it;
}

/* ---- callables with ufunc manners ------------------------------------------------------------ */

static PyObject *ufuncs = NULL;      /* our callables by NumPy's ufuncs */
static PyObject *slow_ufunc = NULL;  /* `__array_ufunc__` in Python */

/* The results of a ufunc with several, wrapped; steals a reference. */
static PyObject *
wrap_each(PyObject *results)
{
    if (results == NULL || !PyTuple_CheckExact(results)) {
        return wrap(results);
    }
    Py_ssize_t n = PyTuple_GET_SIZE(results);
    PyObject *made = PyTuple_New(n);
    for (Py_ssize_t i = 0; made != NULL && i < n; i++) {
        PyObject *one = wrap(Py_NewRef(PyTuple_GET_ITEM(results, i)));
        if (one == NULL) {
            Py_CLEAR(made);
            break;
        }
        PyTuple_SET_ITEM(made, i, one);
    }
    Py_DECREF(results);
    return made;
}

/* Whether `out` is a concrete array of ours that nothing waits to read. */
static int
is_own(PyObject *out)
{
    PyObject *x = IS_CELL(out) ? plain(out) : NULL;
    return x != NULL && !may_be_read(x) && !is_placed(x);
}

/* Whether a call is one that is never planned: with keywords beside `out`, or with a list. */
static int
is_numpys(Function *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs != f->nin) {
        return 0;
    }
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < named; i++) {
        if (!is_keyword(kwnames, i, "out")) {
            return 1;
        }
    }
    for (Py_ssize_t i = 0; named == 0 && i < nargs; i++) {
        if (PyList_CheckExact(args[i]) || PyTuple_CheckExact(args[i])) {
            return 1;
        }
    }
    return 0;
}

static PyObject *
function_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Function *f = (Function *)self;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    /* One argument more, by position or as `out`, is where the result goes. */
    int into = f->nout == 1 && nargs + named == f->nin + 1;
    int site = 0;
    for (Py_ssize_t i = 0; i < nargs && i < f->nin; i++) {
        note_operand(args[i]);
    }
    if (f->nin <= 2 && nargs >= f->nin && (into || nargs + named == f->nin) &&
        (!into || ((named == 0 || is_keyword(kwnames, 0, "out")) && is_own(args[f->nin])))) {
        PyObject *x[3];
        x[0] = plain(args[0]);
        x[1] = f->nin == 2 ? plain(args[1]) : x[0];
        npy_intp bytes;
        if (x[0] != NULL && x[1] != NULL &&
            (bytes = result_bytes(x[0], x[1])) < firm_limit(f->slot, larger(x[0], x[1])) &&
            !(ANY_PLACED && (is_away(x[0]) || is_away(x[1])))) {
            if (!into && f->nout == 1 && bytes >= limit_of(f->slot, larger(x[0], x[1]))) {
                PyObject *made = sketch(f->slot, args, f->nin, 0);
                if (made != NULL || PyErr_Occurred()) {
                    return made;
                }
                x[0] = plain(args[0]); /* it may have run Python */
                x[1] = f->nin == 2 ? plain(args[1]) : x[0];
                if (x[0] == NULL || x[1] == NULL) {
                    goto slow;
                }
            }
            if (!into && f->nout == 1) {
                site = site_of(f->slot, larger(x[0], x[1]), bytes);
            }
            if (closed || (site && sites[site - 1].score >= SURE)) {
                PyObject *made = site && !into ? sketch(f->slot, args, f->nin, site) : NULL;
                if (made != NULL || PyErr_Occurred()) {
                    return made;
                }
                goto slow;
            }
            if (is_due(f->slot, larger(x[0], x[1]), bytes) && !into) {
                if (try_out(f->slot, larger(x[0], x[1]), bytes, self, args, nargs, NULL) < 0) {
                    return NULL;
                }
                return function_vectorcall(self, args, nargsf, kwnames);
            }
            served++;
            PyObject *first = x[0], *second = x[1];
            PyObject *target = into ? plain(args[f->nin]) : first;
            x[f->nin] = target;
            /* Objects among the elements may run code that gives the arrays other values. */
            Py_INCREF(first);
            Py_INCREF(second);
            Py_INCREF(target);
            PyObject *result = into ? NULL : run_loop(f->slot, first, f->nin == 2 ? second : NULL);
            if (result == NULL && !PyErr_Occurred()) {
                PyObject *before = into ? NULL : hold(bytes);
                writes += into;
                result = PyObject_Vectorcall(f->ufunc, x, nargs, kwnames);
                writes -= into;
                let_go(before);
            }
            if (into && result == target) {
                Py_SETREF(result, Py_NewRef(args[f->nin]));
            }
            else {
                result = made_at(site, wrap_each(result));
            }
            Py_DECREF(first);
            Py_DECREF(second);
            Py_DECREF(target);
            return result;
        }
    }
    if (!into && f->nin <= 2 && f->nout == 1 && nargs == f->nin && named == 0) {
        PyObject *made = sketch(f->slot, args, f->nin, site);
        if (made != NULL || PyErr_Occurred()) {
            return made;
        }
    }
    if (!closed && is_numpys(f, args, nargs, kwnames)) {
        Call call;
        call.way = ANY;
        if (gather(&call, args, nargs, kwnames) && !is_heard()) {
            PyObject *result = perform(&call, f->ufunc, nargs, kwnames);
            if (result != NULL || !is_of_ours()) {
                return result;
            }
        }
        release(&call);
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
slow:;
    foreseen = site && sites[site - 1].score >= SURE ? site : 0;
    PyObject *result =
        PyObject_Vectorcall(f->slow, args, nargsf & ~PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames);
    foreseen = 0;
    return made_at(site, result);
}

/* NumPy's ufunc was called on an array of ours, for instance by a NumPy scalar on its left. */
static PyObject *
cell_array_ufunc(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (ufuncs == NULL || slow_ufunc == NULL) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    if (nargs > 2 && named == 0 && PyUnicode_Check(args[1]) &&
        PyUnicode_CompareWithASCIIString(args[1], "__call__") == 0) {
        PyObject *ours = PyDict_GetItemWithError(ufuncs, args[0]);
        if (ours == NULL && PyErr_Occurred()) {
            return NULL;
        }
        int is_plain = ours != NULL && nargs - 2 == ((Function *)ours)->nin;
        for (Py_ssize_t i = 2; i < nargs && is_plain; i++) {
            is_plain = plain(args[i]) != NULL || shows_sketch(args[i]);
        }
        if (is_plain) {
            return function_vectorcall(ours, args + 2, (size_t)(nargs - 2), NULL);
        }
    }
    PyObject **all = PyMem_New(PyObject *, nargs + named + 1);
    if (all == NULL) {
        return PyErr_NoMemory();
    }
    all[0] = self;
    memcpy(all + 1, args, (size_t)(nargs + named) * sizeof(PyObject *));
    PyObject *result = PyObject_Vectorcall(slow_ufunc, all, (size_t)(nargs + 1), kwnames);
    PyMem_Free(all);
    return result;
}

static int
function_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    Function *f = (Function *)self;
    static char *names[] = {"ufunc", "slow", "nin", "nout", "slot", NULL};
    PyObject *ufunc, *slow;
    int nin, nout, slot;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOiii", names, &ufunc, &slow, &nin, &nout, &slot)) {
        return -1;
    }
    if (slot < S_FIRST_FUNCTION || slot >= SLOTS) {
        PyErr_SetString(PyExc_ValueError, "Function: slot out of range");
        return -1;
    }
    Py_XSETREF(f->ufunc, Py_NewRef(ufunc));
    Py_XSETREF(f->slow, Py_NewRef(slow));
    f->nin = nin;
    f->nout = nout;
    f->slot = slot;
    f->vectorcall = function_vectorcall;
    return take_loops(slot, ufunc);
}

static int
function_traverse(PyObject *self, visitproc visit, void *arg)
{
    Function *f = (Function *)self;
    Py_VISIT(f->ufunc);
    Py_VISIT(f->slow);
    return 0;
}

static int
function_clear(PyObject *self)
{
    Function *f = (Function *)self;
    Py_CLEAR(f->ufunc);
    Py_CLEAR(f->slow);
    return 0;
}

static void
function_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    function_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyMemberDef function_members[] = {
    {"_ufunc", T_OBJECT, offsetof(Function, ufunc), READONLY, NULL},
    {"_slow", T_OBJECT, offsetof(Function, slow), READONLY, NULL},
    {"_slot", T_INT, offsetof(Function, slot), READONLY, NULL},
    {NULL},
};

static PyTypeObject FunctionType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "dispatcharr.face._fastpath_c.Function",
    .tp_doc = "A callable that runs its ufunc on small concrete arrays and hands on the rest.",
    .tp_basicsize = sizeof(Function),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Function, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_members = function_members,
    .tp_init = function_init,
    .tp_new = PyType_GenericNew,
    .tp_traverse = function_traverse,
    .tp_clear = function_clear,
    .tp_dealloc = function_dealloc,
};

/* ---- functions and methods that are planned above a limit, or never -------------------------- */

enum { LENT = 1 << 24 }; /* bytes of a read-only array of which a copy costs far more than a closer look */

/* Whether a call only reads its arrays, and is too small to be planned: then nothing that waits has
 * to be asked. Arrays of several sizes are left alone. `due` is set to an array if it is to be tried. */
static int
is_pure_and_small(Forward *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                  PyObject **due)
{
    if (f->slot < 0 || nargs > f->reads) {
        return 0;
    }
    Py_ssize_t total = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject *most = NULL;
    int slot = f->slot;
    for (Py_ssize_t i = 0; i < total; i++) {
        PyObject *x = IS_CELL(args[i]) ? plain(args[i]) : args[i];
        if (x == NULL || (i >= nargs && is_keyword(kwnames, i - nargs, "out"))) {
            return 0;
        }
        if (i >= nargs && is_keyword(kwnames, i - nargs, "where")) {
            slot = f->masked;
        }
        if (!PyArray_CheckExact(x)) {
            continue;
        }
        if (most != NULL && PyArray_SIZE((PyArrayObject *)x) != PyArray_SIZE((PyArrayObject *)most)) {
            return 0;
        }
        most = most == NULL ? x : larger(most, x);
    }
    if (most == NULL || slot < 0 || own_bytes(most) >= limit_of(slot, most)) {
        return 0;
    }
    if (f->masked >= 0 && own_bytes(most) >= LENT && !PyArray_ISWRITEABLE((PyArrayObject *)most)) {
        return 0; /* a map perhaps, of which NumPy might make a copy */
    }
    *due = slot == f->slot && is_due(slot, most, own_bytes(most)) ? most : NULL;
    return 1;
}

enum { MODEST = 3 };

/* Run a call that only reads arrays that nothing waits for. NULL without an error where its arguments
 * need a closer look. */
static PyObject *
call_pure(Forward *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t total = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject *x[MOST_ARGUMENTS + 1]; /* the first is whoever is called's to use */
    npy_intp bytes = 0;
    if (total > MOST_ARGUMENTS) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < total; i++) {
        PyObject *o = IS_CELL(args[i]) ? plain(args[i]) : args[i];
        if (o == NULL || o == (PyObject *)array_type || !is_familiar(o) || PyList_CheckExact(o) ||
            PyTuple_CheckExact(o) || is_away(o)) {
            return NULL;
        }
        bytes += own_bytes(o);
        x[i + 1] = o;
    }
    for (Py_ssize_t i = 1; i <= total; i++) {
        Py_INCREF(x[i]);
    }
    /* Most functions reduce. */
    PyObject *before = f->modest < MODEST ? hold(bytes) : NULL;
    PyObject *result = PyObject_Vectorcall(
        f->function, x + 1, (size_t)nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames);
    let_go(before);
    int is_array = result != NULL && PyArray_CheckExact(result);
    if (bytes >= from_bytes) {
        f->modest = is_array && own_bytes(result) >= from_bytes ? 0 : f->modest + (f->modest < MODEST);
    }
    for (Py_ssize_t i = 1; is_array && i <= total; i++) {
        if (x[i] == result) { /* it may have been given as it came */
            Py_SETREF(result, Py_NewRef(args[i - 1]));
            is_array = 0;
        }
    }
    if (is_array) {
        result = wrap(result);
        for (Py_ssize_t i = 0; i < total; i++) {
            of_parent(result, args[i]);
        }
    }
    else if (result != NULL && !IS_CELL(result) && !is_no_array(result, 0)) {
        Call call;
        call.way = PURE;
        if (gather(&call, args, nargs, kwnames)) {
            result = shown(&call, result, 1);
        }
        else {
            Py_CLEAR(result);
        }
        release(&call);
    }
    for (Py_ssize_t i = 1; i <= total; i++) {
        Py_DECREF(x[i]);
    }
    return result;
}

/* From how many elements on contracting a vector of integers may pay, and a matrix. */
enum { LONG_VECTOR = 1 << 17, LARGE_MATRIX = 1 << 12 };

/* Whether a call contracts integers or bools, and is large enough for somebody to look at. */
static int
contracts_integers(PyObject *const *args, Py_ssize_t nargs)
{
    int matrices = 0;
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyObject *x = IS_CELL(args[i]) ? plain(args[i]) : args[i];
        if (x == NULL || !PyArray_CheckExact(x)) {
            continue;
        }
        PyArrayObject *array = (PyArrayObject *)x;
        if (!PyArray_ISINTEGER(array) && !PyArray_ISBOOL(array)) {
            return 0;
        }
        if (PyArray_SIZE(array) >= LONG_VECTOR) {
            return 1;
        }
        matrices += PyArray_NDIM(array) > 1 && PyArray_SIZE(array) >= LARGE_MATRIX;
    }
    return matrices > 1;
}

enum { SEVERAL_AXES = 1 << 17 };

/* Whether one of the arguments is an array beyond the limit of a slot; NumPy is slower with several
 * axes. */
static int
is_long(PyObject *const *args, Py_ssize_t nargs, int slot)
{
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyObject *x = IS_CELL(args[i]) ? plain(args[i]) : args[i];
        if (x != NULL && PyArray_CheckExact(x)) {
            npy_intp limit = limit_of(slot, x);
            if (limit > SEVERAL_AXES && PyArray_NDIM((PyArrayObject *)x) > 1) {
                limit /= 4;
            }
            if (own_bytes(x) >= limit) {
                return 1;
            }
        }
    }
    return 0;
}

/* Whether a reduction is given a large array of NumPy's, which is planned as ours are. */
static int
reduces_numpys(Forward *f, PyObject *const *args, Py_ssize_t nargs)
{
    if (f->masked < 0 || f->slot < 0 || nargs < 1 || !PyArray_Check(args[0])) {
        return 0;
    }
    PyArrayObject *x = (PyArrayObject *)args[0];
    int type = PyArray_TYPE(x);
    int may_be_map = !PyArray_CheckExact(args[0]) || !PyArray_ISWRITEABLE(x);
    return type >= 0 && type < TYPES &&
           (PyArray_NBYTES(x) >= limits[f->slot][type] || (may_be_map && PyArray_NBYTES(x) >= LENT));
}

static PyObject *
forward_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Forward *f = (Forward *)self;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (f->reads < 0) {  /* it counts references, and is always called alike */
        return PyObject_Vectorcall(f->slow, args, nargs, kwnames);
    }
    for (Py_ssize_t i = 0; i < nargs && i < f->reads; i++) {
        note_operand(args[i]);
    }
    if (nargs == 3 && kwnames == NULL && f->slot >= 0 && shows_sketch(args[0])) {
        PyObject *made = sketch(f->slot, args, 3, 0);
        if (made != NULL || PyErr_Occurred()) {
            return made;
        }
    }
    if (!closed && f->first != NULL &&
        (f->asks ? is_long(args, nargs, f->asks) : contracts_integers(args, nargs))) {
        PyObject *result = PyObject_Vectorcall(f->first, args, nargs, kwnames);
        if (result != Py_NotImplemented) {
            return result;
        }
        Py_DECREF(result);
    }
    if (!closed) {
        PyObject *due = NULL;
        int is_pure = is_pure_and_small(f, args, nargs, kwnames, &due);
        if (is_pure && due != NULL) {
            if (try_out(f->slot, due, own_bytes(due), self, args, nargs, kwnames) < 0) {
                return NULL;
            }
            return forward_vectorcall(self, args, nargsf, kwnames);
        }
        if (is_pure) {
            PyObject *result = call_pure(f, args, nargs, kwnames);
            if (result != NULL) {
                served++;
                return result;
            }
            if (PyErr_Occurred() && !is_of_ours()) {
                return NULL;
            }
        }
        Call call;
        call.way = is_pure ? PURE : f->opaque ? ANY : SMALL;
        call.total = call.count = 0;
        if (!reduces_numpys(f, args, nargs) && gather(&call, args, nargs, kwnames) && !(call.is_large && is_heard())) {
            served += !call.is_large;
            PyObject *result = perform(&call, f->function, nargs, kwnames);
            if (result != NULL || !is_of_ours()) {
                return result;
            }
        }
        release(&call);
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    return PyObject_Vectorcall(f->slow, args, nargs, kwnames);
}

static int
forward_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    Forward *f = (Forward *)self;
    static char *names[] = {"function", "slow", "slot", "reads", "masked", "opaque", "first", NULL};
    PyObject *function, *slow;
    int slot = -1, reads = 0, masked = -1, opaque = 0;
    PyObject *first = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|iiipO", names, &function, &slow, &slot, &reads,
                                     &masked, &opaque, &first)) {
        return -1;
    }
    if (slot >= SLOTS || masked >= SLOTS) {
        PyErr_SetString(PyExc_ValueError, "Forward: slot out of range");
        return -1;
    }
    f->slot = slot;
    f->reads = reads;
    f->masked = masked;
    f->opaque = opaque;
    Py_XSETREF(f->first, first == Py_None ? NULL : Py_XNewRef(first));
    Py_XSETREF(f->function, Py_NewRef(function));
    Py_XSETREF(f->slow, Py_NewRef(slow));
    f->vectorcall = forward_vectorcall;
    return 0;
}

/* Functions bind, builtin functions and ufuncs do not: as attributes of a class they are no methods. */
static PyObject *
forward_bind(PyObject *self, PyObject *object, PyObject *type)
{
    return object == NULL || object == Py_None ? Py_NewRef(self) : PyMethod_New(self, object);
}

static int
forward_traverse(PyObject *self, visitproc visit, void *arg)
{
    Forward *f = (Forward *)self;
    Py_VISIT(f->function);
    Py_VISIT(f->slow);
    Py_VISIT(f->first);
    Py_VISIT(f->dict);
    return 0;
}

static int
forward_clear(PyObject *self)
{
    Forward *f = (Forward *)self;
    Py_CLEAR(f->function);
    Py_CLEAR(f->slow);
    Py_CLEAR(f->first);
    Py_CLEAR(f->dict);
    return 0;
}

static void
forward_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    if (((Forward *)self)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    forward_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *
forward_reduce(PyObject *self, PyObject *ignored)
{
    return PyObject_GetAttrString(self, "__qualname__");
}

/* Programs look NumPy's functions up in tables of their own, whichever name they got them by. */
static PyObject *
forward_richcompare(PyObject *self, PyObject *other, int op)
{
    if (op != Py_EQ && op != Py_NE) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    int equal = self == other || ((Forward *)self)->function == other;
    return PyBool_FromLong(equal == (op == Py_EQ));
}

static Py_hash_t
forward_hash(PyObject *self)
{
    Py_hash_t hash = PyObject_Hash(((Forward *)self)->function);
    if (hash == -1) {
        PyErr_Clear();  /* what cannot be hashed is found by no table */
        hash = (Py_hash_t)((size_t)self >> 4);
    }
    return hash;
}

static PyObject *
forward_repr(PyObject *self)
{
    PyObject *module = PyObject_GetAttrString(self, "__module__");
    PyObject *name = PyObject_GetAttrString(self, "__qualname__");
    PyObject *made = module && name ? PyUnicode_FromFormat("<function %U.%U>", module, name) : NULL;
    Py_XDECREF(module);
    Py_XDECREF(name);
    return made;
}

static PyMethodDef forward_methods[] = {
    {"__reduce__", forward_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyMemberDef forward_members[] = {
    {"_function", T_OBJECT, offsetof(Forward, function), READONLY, NULL},
    {"_slow", T_OBJECT, offsetof(Forward, slow), READONLY, NULL},
    {"_asks", T_INT, offsetof(Forward, asks), 0, NULL},
    {NULL},
};

static PyGetSetDef forward_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL},
};

static PyTypeObject ForwardType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "dispatcharr.face._fastpath_c.Forward",
    .tp_basicsize = sizeof(Forward),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
                Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Forward, vectorcall),
    .tp_dictoffset = offsetof(Forward, dict),
    .tp_weaklistoffset = offsetof(Forward, weakrefs),
    .tp_call = PyVectorcall_Call,
    .tp_members = forward_members,
    .tp_methods = forward_methods,
    .tp_repr = forward_repr,
    .tp_richcompare = forward_richcompare,
    .tp_hash = forward_hash,
    .tp_getset = forward_getset,
    .tp_init = forward_init,
    .tp_new = PyType_GenericNew,
    .tp_traverse = forward_traverse,
    .tp_clear = forward_clear,
    .tp_dealloc = forward_dealloc,
};

static PyTypeObject MethodType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "dispatcharr.face._fastpath_c.Method",
    .tp_base = &ForwardType,
    .tp_basicsize = sizeof(Forward),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
                Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_vectorcall_offset = offsetof(Forward, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = forward_bind,
    .tp_traverse = forward_traverse,
    .tp_clear = forward_clear,
    .tp_dealloc = forward_dealloc,
};

/* What some attributes of the class are where they are asked of the class itself: operations that take
 * subclasses too, which are NumPy's. NumPy asks classes for attributes on the way of every call, so
 * this is no place for Python. */
static PyObject *unbound = NULL;

static PyObject *
meta_getattro(PyObject *cls, PyObject *name)
{
    if (unbound != NULL && cls == (PyObject *)array_type) {
        PyObject *found = PyDict_GetItemWithError(unbound, name);
        if (found != NULL || PyErr_Occurred()) {
            return Py_XNewRef(found);
        }
    }
    return PyType_Type.tp_getattro(cls, name);
}

static PyTypeObject MetaType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "dispatcharr.face._fastpath_c.Meta",
    .tp_doc = "The class of array classes.",
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_getattro = meta_getattro,
};

static PyObject *
py_set_unbound(PyObject *module, PyObject *table)
{
    if (!PyDict_Check(table)) {
        PyErr_SetString(PyExc_TypeError, "set_unbound: wanted a dict of names");
        return NULL;
    }
    Py_XSETREF(unbound, Py_NewRef(table));
    Py_RETURN_NONE;
}

/* ---- module ---------------------------------------------------------------------------------- */

static int
bad_slot(long slot)
{
    if (slot >= 0 && slot < SLOTS) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "slot %ld is outside 0 to %d", slot, SLOTS - 1);
    return 1;
}

static PyObject *
py_set_handler(PyObject *module, PyObject *args)
{
    int slot;
    PyObject *handler;
    if (!PyArg_ParseTuple(args, "iO", &slot, &handler) || bad_slot(slot)) {
        return NULL;
    }
    Py_XSETREF(handlers[slot], Py_NewRef(handler));
    Py_RETURN_NONE;
}

static int
bad_type(int type)
{
    if (type >= 0 && type < TYPES) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "type number %d is outside 0 to %d", type, TYPES - 1);
    return 1;
}

static PyObject *
py_set_loops(PyObject *module, PyObject *args)
{
    int slot;
    PyObject *ufunc;
    if (!PyArg_ParseTuple(args, "iO", &slot, &ufunc) || bad_slot(slot) ||
        take_loops(slot, ufunc) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
py_set_limit(PyObject *module, PyObject *args)
{
    int slot, type = -1;
    Py_ssize_t bytes;
    if (!PyArg_ParseTuple(args, "in|i", &slot, &bytes, &type) || bad_slot(slot) ||
        (type != -1 && bad_type(type))) {
        return NULL;
    }
    for (int i = type == -1 ? 0 : type; i < (type == -1 ? TYPES : type + 1); i++) {
        limits[slot][i] = bytes;
        priced[slot][i] = type != -1;
    }
    Py_RETURN_NONE;
}

static PyObject *
py_set_trial(PyObject *module, PyObject *args)
{
    int slot, type;
    Py_ssize_t from, left, firm;
    if (!PyArg_ParseTuple(args, "iinnn", &slot, &type, &from, &left, &firm) || bad_slot(slot) ||
        bad_type(type)) {
        return NULL;
    }
    trial_from[slot][type] = from;
    trial_left[slot][type] = left;
    firm_limits[slot][type] = firm;
    Py_RETURN_NONE;
}

static PyObject *
py_set_trials(PyObject *module, PyObject *hook)
{
    Py_XSETREF(trial_hook, Py_NewRef(hook));
    Py_RETURN_NONE;
}

static PyObject *
py_get_limit(PyObject *module, PyObject *args)
{
    int slot, type;
    if (!PyArg_ParseTuple(args, "ii", &slot, &type) || bad_slot(slot) || bad_type(type)) {
        return NULL;
    }
    return PyLong_FromSsize_t(limits[slot][type]);
}

static PyObject *
py_close(PyObject *module, PyObject *arg)
{
    long by = PyLong_AsLong(arg);
    if (by == -1 && PyErr_Occurred()) {
        return NULL;
    }
    closed += (int)by;
    return PyLong_FromLong(closed);
}

static PyObject *
py_set_pending(PyObject *module, PyObject *arg)
{
    Py_ssize_t count = PyLong_AsSsize_t(arg);
    if (count == -1 && PyErr_Occurred()) {
        return NULL;
    }
    pending = count;
    Py_RETURN_NONE;
}

static PyObject *
py_placed(PyObject *module, PyObject *args)
{
    PyObject *id;
    int state;
    if (!PyArg_ParseTuple(args, "O!i", &PyLong_Type, &id, &state)) {
        return NULL;
    }
    PyObject *root = PyLong_AsVoidPtr(id);
    if (root == NULL || state < 0 || state > AWAY) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "placed: wanted an id and a state from 0 to %d", AWAY);
        }
        return NULL;
    }
    if (grow_places() < 0) {
        return NULL;
    }
    Place *place = &places[place_of(root, places, places_size)];
    places_used += place->root == NULL;
    placed += (state != 0) - (place->state != 0);
    *place = (Place){root, state};
    Py_RETURN_NONE;
}

static PyObject *
py_writes(PyObject *module, PyObject *ignored)
{
    return PyLong_FromSize_t(writes);
}

static PyObject *
py_set_hooks(PyObject *module, PyObject *args)
{
    PyObject *listens, *marks, *finishes;
    if (!PyArg_ParseTuple(args, "OOO", &listens, &marks, &finishes)) {
        return NULL;
    }
    Py_XSETREF(listened, Py_NewRef(listens));
    Py_XSETREF(mark_foreign, Py_NewRef(marks));
    Py_XSETREF(finish, Py_NewRef(finishes));
    Py_RETURN_NONE;
}

static PyObject *
py_set_believed(PyObject *module, PyObject *args)
{
    PyObject *modules, *answer;
    if (!PyArg_ParseTuple(args, "O!O", &PyFrozenSet_Type, &modules, &answer)) {
        return NULL;
    }
    if (name_of_module == NULL &&
        (name_of_module = PyUnicode_InternFromString("__name__")) == NULL) {
        return NULL;
    }
    Py_XSETREF(asking, Py_NewRef(modules));
    Py_XSETREF(believed, Py_NewRef(answer));
    Py_RETURN_NONE;
}

static PyObject *
py_set_memory(PyObject *module, PyObject *args)
{
    PyObject *handler;
    Py_ssize_t bytes;
    if (!PyArg_ParseTuple(args, "On", &handler, &bytes)) {
        return NULL;
    }
    if (handler != Py_None && !PyCapsule_IsValid(handler, "mem_handler")) {
        PyErr_SetString(PyExc_TypeError, "set_memory: wanted a NumPy memory handler or None");
        return NULL;
    }
    from_bytes = handler == Py_None ? NPY_MAX_INTP : bytes;
    Py_XSETREF(memory, Py_NewRef(handler));
    Py_RETURN_NONE;
}

static PyObject *
py_set_ufuncs(PyObject *module, PyObject *args)
{
    PyObject *table, *slow, *ufunc, *ours;
    if (!PyArg_ParseTuple(args, "O!O", &PyDict_Type, &table, &slow)) {
        return NULL;
    }
    for (Py_ssize_t at = 0; PyDict_Next(table, &at, &ufunc, &ours);) {
        if (!PyObject_TypeCheck(ours, &FunctionType)) {
            PyErr_SetString(PyExc_TypeError, "set_ufuncs: wanted a Function for each ufunc");
            return NULL;
        }
    }
    Py_XSETREF(ufuncs, Py_NewRef(table));
    Py_XSETREF(slow_ufunc, Py_NewRef(slow));
    Py_RETURN_NONE;
}

static PyObject *
py_foreseen(PyObject *module, PyObject *ignored)
{
    int site = foreseen;
    foreseen = 0;
    return PyLong_FromLong(site);
}

/* The site of a number; one that nobody looks at for others, and NULL with an error. */
static Site *
site_numbered(PyObject *number)
{
    static Site nowhere;
    long site = PyLong_AsLong(number);
    if (site == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return site >= 1 && site <= SITES ? &sites[site - 1] : &nowhere;
}

static PyObject *
py_mistaken(PyObject *module, PyObject *number)
{
    Site *site = site_numbered(number);
    if (site == NULL) {
        return NULL;
    }
    site->score = MISTAKEN;
    Py_RETURN_NONE;
}

static PyObject *
py_missed(PyObject *module, PyObject *number)
{
    Site *site = site_numbered(number);
    if (site == NULL) {
        return NULL;
    }
    site->misses += site->misses < MOST_MISSES;
    if (site->misses > LEARNING) {
        site->score = (signed char)(SURE - 2 * (site->misses - LEARNING));
    }
    Py_RETURN_NONE;
}

static PyObject *
py_set_chain_limit(PyObject *module, PyObject *args)
{
    long slot;
    Py_ssize_t bytes;
    int type;
    if (!PyArg_ParseTuple(args, "lni", &slot, &bytes, &type)) {
        return NULL;
    }
    if (bad_slot(slot) || bad_type(type)) {
        return NULL;
    }
    chain_limits[slot][type] = bytes;
    Py_RETURN_NONE;
}

static PyObject *
py_served(PyObject *module, PyObject *ignored)
{
    return PyLong_FromSsize_t(served);
}

static PyObject *
py_register(PyObject *module, PyObject *type)
{
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, &CellType)) {
        PyErr_SetString(PyExc_TypeError, "register: wanted a subclass of Cell");
        return NULL;
    }
    Py_XSETREF(array_type, (PyTypeObject *)Py_NewRef(type));
    Py_RETURN_NONE;
}

static PyObject *
py_wrap(PyObject *module, PyObject *value)
{
    return wrap(Py_NewRef(value));
}

static PyObject *
py_view(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "view: wanted an array of NumPy's, and what it views");
        return NULL;
    }
    return of_parent(wrap(Py_NewRef(args[0])), args[1]);
}

static PyObject *
py_cell(PyObject *module, PyObject *value)
{
    Cell *cell = (Cell *)array_type->tp_alloc(array_type, 0);
    if (cell != NULL) {
        cell->value = Py_NewRef(value);
    }
    return (PyObject *)cell;
}

static PyObject *
py_holds_cell(PyObject *module, PyObject *value)
{
    return PyBool_FromLong(holds_cell(value, 0));
}

static PyMethodDef methods[] = {
    {"holds_cell", py_holds_cell, METH_O, "Whether a list or tuple, or one inside it, holds an array of ours."},
    {"register", py_register, METH_O, "Make `type` the class of wrapped results."},
    {"wrap", py_wrap, METH_O, "Put an exact numpy.ndarray into a new array; return anything else unchanged."},
    {"view", (PyCFunction)(void (*)(void))py_view, METH_FASTCALL, "Do as `wrap`, and note that the result views another array."},
    {"set_unbound", py_set_unbound, METH_O, "Set what attributes are where the class is asked for them."},
    {"cell", py_cell, METH_O, "Put any value, a pending node too, into a new array."},
    {"set_handler", py_set_handler, METH_VARARGS, "Set the Python handler of a slot."},
    {"set_loops", py_set_loops, METH_VARARGS, "Have a slot run the loops of a ufunc."},
    {"set_limit", py_set_limit, METH_VARARGS, "Set the bytes from which a slot declines; for one type number, or all."},
    {"set_trial", py_set_trial, METH_VARARGS, "Set for a slot and type number from how many bytes on operations are tried, after how many more, and from how many on they are planned in any case."},
    {"set_trials", py_set_trials, METH_O, "Set who tries operations."},
    {"get_limit", py_get_limit, METH_VARARGS, "The limit of a slot and type number, in bytes."},
    {"close", py_close, METH_O, "Add to the number of reasons to decline every operation; return it."},
    {"set_pending", py_set_pending, METH_O, "Say how many memory roots pending nodes read."},
    {"placed", py_placed, METH_VARARGS, "Say of an array, by its id, whether its memory has a mirror (1), is away (2), or neither (0)."},
    {"writes", py_writes, METH_NOARGS, "How many writes to arrays go on now."},
    {"set_hooks", py_set_hooks, METH_VARARGS, "Set what is asked about calls that are left to NumPy."},
    {"set_believed", py_set_believed, METH_VARARGS, "Set the modules that are not told the class of arrays, but what a function answers."},
    {"set_memory", py_set_memory, METH_VARARGS, "Allocate results from so many bytes on by a NumPy memory handler."},
    {"set_ufuncs", py_set_ufuncs, METH_VARARGS, "Set our callables by NumPy's ufuncs, and `__array_ufunc__` in Python."},
    {"foreseen", py_foreseen, METH_NOARGS, "The place whose operation is handed over because it is foreseen to have followers; 0 else."},
    {"mistaken", py_mistaken, METH_O, "Note that what was foreseen at a place did not come."},
    {"missed", py_missed, METH_O, "Note that what waited at a place had no plan yet."},
    {"set_chain_limit", py_set_chain_limit, METH_VARARGS, "Set the bytes from which operations of a slot and type number are worth planning if they have followers."},
    {"set_tape", py_set_tape, METH_VARARGS, "Set what makes nodes of sketches, what runs them, and what is asked before noting one."},
    {"set_sketched", py_set_sketched, METH_VARARGS, "Set the type number of the result of a slot for operands of a type number; -1 for none."},
    {"patient", py_patient, METH_VARARGS, "Say that warnings may wait while NumPy's modes and Python's filters are these."},
    {"close_tape", py_close_tape, METH_O, "Add to the number of reasons to note nothing; return it, with those to decline everything."},
    {"taping", py_taping, METH_O, "Note operations on the tape, or do not."},
    {"running", py_running, METH_NOARGS, "The kernels that run without Python: a ticket, the thread, ids of the roots that are read."},
    {"forget_running", py_forget_running, METH_NOARGS, "Forget what other threads run, in a forked child."},
    {"set_repeats", py_set_repeats, METH_O, "Set the table of kernels to be run again, by the keys of structures."},
    {"repeat", py_repeat, METH_VARARGS, "Run the kernel of a reduction again; NotImplemented where Python has to."},
    {"settled", py_settled, METH_O, "The value of an array, computed from its sketch where that can be; else its node."},
    {"settle", py_settle, METH_NOARGS, "Make nodes of all sketches that arrays show."},
    {"structure", py_structure, METH_O, "What a sketch computes: a key, the sketches below it, their leaves; None where it has no key."},
    {"show_node", py_show_node, METH_VARARGS, "Have the array that shows a sketch show its node; False if it shows something else by now."},
    {"sketches", py_sketches, METH_NOARGS, "The sketches that arrays show, oldest first."},
    {"sketch_of", py_sketch_of, METH_O, "The sketch that an array shows, or None."},
    {"served", py_served, METH_NOARGS, "How many operations on small arrays the fast path has answered."},
    {NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_fastpath_c",
    .m_doc = "Operators on small concrete arrays.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__fastpath_c(void)
{
    import_array();
    import_umath();
    MetaType.tp_base = &PyType_Type;
    if (PyType_Ready(&MetaType) < 0 || PyType_Ready(&SketchType) < 0 || PyType_Ready(&RepeatType) < 0 || PyType_Ready(&CellType) < 0 || PyType_Ready(&FunctionType) < 0 ||
        PyType_Ready(&ForwardType) < 0 || PyType_Ready(&MethodType) < 0) {
        return NULL;
    }
    array_type = (PyTypeObject *)Py_NewRef((PyObject *)&CellType);
    for (int i = 0; i < SLOTS; i++) {
        for (int type = 0; type < TYPES; type++) {
            limits[i][type] = NPY_MAX_INTP;
            trial_from[i][type] = NPY_MAX_INTP;
            chain_limits[i][type] = NPY_MAX_INTP;
            sketched[i][type] = -1;
        }
    }
    PyObject *module = PyModule_Create(&module_def);
    if (module == NULL ||
        PyModule_AddObjectRef(module, "Cell", (PyObject *)&CellType) < 0 ||
        PyModule_AddObjectRef(module, "Sketch", (PyObject *)&SketchType) < 0 ||
        PyModule_AddObjectRef(module, "Repeat", (PyObject *)&RepeatType) < 0 ||
        PyModule_AddObjectRef(module, "Function", (PyObject *)&FunctionType) < 0 ||
        PyModule_AddObjectRef(module, "Forward", (PyObject *)&ForwardType) < 0 ||
        PyModule_AddObjectRef(module, "Method", (PyObject *)&MethodType) < 0 ||
        PyModule_AddObjectRef(module, "Meta", (PyObject *)&MetaType) < 0 ||
        PyModule_AddIntConstant(module, "FIRST_FUNCTION", S_FIRST_FUNCTION) < 0 ||
        PyModule_AddIntConstant(module, "SLOTS", SLOTS) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}

/* NumPy's own loops, called without the ufunc around them.
 *
 * On 10,000 elements a ufunc spends as long on finding its loop as the loop runs. Which loop that is
 * follows from the dtype alone where all operands have one dtype, lie in memory as the loop takes
 * them, and have one shape, or are a number of Python's: then what NumPy does is to allocate the result, to
 * call the loop once, and to look at the floating-point flags. So it is done here, by the loops that
 * the ufunc itself has chosen for this CPU. Everything else is the ufunc's.
 */
#include <fenv.h>

enum { RELEASED = 1 << 14 }; /* elements from which on other threads may run meanwhile */

typedef struct {
    PyUFuncGenericFunction function; /* NULL where there is none */
    void *data;
    PyArray_Descr *given, *second; /* dtypes of the operands */
    PyArray_Descr *made, *also;    /* those of the results; NULL where there is no second */
} Loop;

static Loop loops[SLOTS][TYPES];
static const char *loop_names[SLOTS];

/* A number of Python's as an element. */
typedef union {
    npy_double d;
    npy_float f;
    npy_longlong q;
    npy_long l;
    npy_int i;
    npy_short h;
    npy_byte b;
} Element;

/* Take the loops of a ufunc for a slot: of each dtype the one whose operands all have it, or else the
 * first whose first operand has it. -1 with an error. */
static int
take_loops(int slot, PyObject *object)
{
    PyUFuncObject *ufunc = (PyUFuncObject *)object;
    if (!PyObject_TypeCheck(object, &PyUFunc_Type) || ufunc->core_enabled || ufunc->nin > 2 ||
        ufunc->nout > 2) {
        return 0;
    }
    int each = ufunc->nin + ufunc->nout;
    for (int i = 0; i < ufunc->ntypes; i++) {
        const char *types = ufunc->types + i * each;
        int first = types[0], second = types[ufunc->nin - 1], known = 1;
        for (int j = 0; j < each; j++) {
            known &= (types[j] >= NPY_BOOL && types[j] <= NPY_CDOUBLE) || types[j] == NPY_HALF;
            known &= types[j] != NPY_LONGDOUBLE;
        }
        if (!known) {
            continue;
        }
        Loop *loop = &loops[slot][first];
        if (loop->function != NULL && (second != first || loop->second == loop->given)) {
            continue;
        }
        loop->function = ufunc->functions[i];
        loop->data = ufunc->data == NULL ? NULL : (void *)ufunc->data[i];
        loop->given = PyArray_DescrFromType(first);
        loop->second = PyArray_DescrFromType(second);
        loop->made = PyArray_DescrFromType(types[ufunc->nin]);
        loop->also = ufunc->nout == 2 ? PyArray_DescrFromType(types[ufunc->nin + 1]) : NULL;
    }
    loop_names[slot] = ufunc->name == NULL ? "unnamed" : ufunc->name;
    Py_INCREF(object); /* for good: it owns all this */
    return PyErr_Occurred() ? -1 : 0;
}

#define PUT_INTEGER(field, least, most) \
    if (x < (least) || x > (most)) { \
        return 0; \
    } \
    element->field = x; \
    return 1

/* Make an element of a number of Python's; 0 where NumPy is to do that, or to refuse it. */
static int
put_number(PyObject *o, int type, Element *element)
{
    double value;
    /* Of two dtypes of one size NumPy may take the other one for a number's sake. */
    if (sizeof(npy_long) == sizeof(npy_longlong) ? type == NPY_LONGLONG
                                                 : type == NPY_INT || type == NPY_LONG) {
        return 0;
    }
    if (PyLong_CheckExact(o)) {
        int overflow;
        npy_longlong x = PyLong_AsLongLongAndOverflow(o, &overflow);
        if (overflow) {
            return 0;
        }
        switch (type) {
        case NPY_BYTE: PUT_INTEGER(b, NPY_MIN_BYTE, NPY_MAX_BYTE);
        case NPY_SHORT: PUT_INTEGER(h, NPY_MIN_SHORT, NPY_MAX_SHORT);
        case NPY_INT: PUT_INTEGER(i, NPY_MIN_INT, NPY_MAX_INT);
        case NPY_LONG: PUT_INTEGER(l, NPY_MIN_LONG, NPY_MAX_LONG);
        case NPY_LONGLONG: PUT_INTEGER(q, NPY_MIN_LONGLONG, NPY_MAX_LONGLONG);
        case NPY_FLOAT:
        case NPY_DOUBLE:
            if (x > (1 << 24) || x < -(1 << 24)) {
                return 0;
            }
            value = (double)x;
            break;
        default: return 0;
        }
    }
    else if (PyFloat_CheckExact(o)) {
        value = PyFloat_AS_DOUBLE(o);
    }
    else {
        return 0;
    }
    if (type == NPY_DOUBLE) {
        element->d = value;
        return 1;
    }
    /* What overflows or underflows as a float NumPy warns of. */
    double size = fabs(value);
    element->f = (npy_float)value;
    return type == NPY_FLOAT && (size == 0 || (size > 1e-37 && size < 3e38));
}

/* Tell of floating-point errors as NumPy does; -1 with an error. */
COLD static int
tell_errors(int slot, int flags)
{
    int told = (flags & FE_DIVBYZERO ? NPY_FPE_DIVIDEBYZERO : 0) |
               (flags & FE_OVERFLOW ? NPY_FPE_OVERFLOW : 0) |
               (flags & FE_UNDERFLOW ? NPY_FPE_UNDERFLOW : 0) |
               (flags & FE_INVALID ? NPY_FPE_INVALID : 0);
    feclearexcept(FE_ALL_EXCEPT);
    return PyUFunc_GiveFloatingpointErrors(loop_names[slot], told);
}

static const int telling = FE_DIVBYZERO | FE_OVERFLOW | FE_UNDERFLOW | FE_INVALID;

/* Whether an operand lies in memory as a loop takes it. */
static inline int
fits_loop(PyObject *x, PyArray_Descr *wanted)
{
    return PyArray_DESCR((PyArrayObject *)x) == wanted &&
           PyArray_CHKFLAGS((PyArrayObject *)x, NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED);
}

enum { TRACED = 389047 }; /* where tracemalloc files the memory of NumPy's arrays */

/* Memory of the pool for a large result. To have NumPy ask for it, by `hold`, takes half a microsecond.
 * NULL without an error where NumPy is to allocate it. */
static void *
pooled(npy_intp bytes)
{
    if (bytes < from_bytes) {
        return NULL;
    }
    PyObject *current = PyDataMem_GetHandler();
    PyDataMem_Handler *handler = NULL;
    if (current == PyDataMem_DefaultHandler || current == memory) {
        handler = PyCapsule_GetPointer(memory, "mem_handler");
    }
    Py_XDECREF(current);
    PyErr_Clear(); /* whatever it is, NumPy will say it */
    void *data = handler == NULL ? NULL
                                 : handler->allocator.malloc(handler->allocator.ctx, (size_t)bytes);
    if (data != NULL) {
        PyTraceMalloc_Track(TRACED, (uintptr_t)data, (size_t)bytes);
    }
    return data;
}

/* An array of the shape of another, as NumPy makes one for a result. */
static PyObject *
empty_like_shape(PyArrayObject *like, PyArray_Descr *descr)
{
    npy_intp bytes = PyArray_SIZE(like) * PyDataType_ELSIZE(descr);
    void *data = pooled(bytes);
    PyObject *made = PyArray_NewFromDescr(
        &PyArray_Type, (PyArray_Descr *)Py_NewRef((PyObject *)descr), PyArray_NDIM(like),
        PyArray_DIMS(like), NULL, data, data == NULL ? 0 : NPY_ARRAY_CARRAY, NULL);
    if (made != NULL && data != NULL) {
        ((PyArrayObject_fields *)made)->mem_handler = Py_NewRef(memory);
        PyArray_ENABLEFLAGS((PyArrayObject *)made, NPY_ARRAY_OWNDATA);
    }
    else if (data != NULL) {
        PyDataMem_Handler *handler = PyCapsule_GetPointer(memory, "mem_handler");
        PyTraceMalloc_Untrack(TRACED, (uintptr_t)data);
        handler->allocator.free(handler->allocator.ctx, data, (size_t)bytes);
    }
    return made;
}

/* The results of an operation on arrays and numbers, `y` NULL where it has one operand: an array of
 * NumPy's, or a tuple of two. NULL without an error where that is the ufunc's. */
static PyObject *
run_loop(int slot, PyObject *x, PyObject *y)
{
    PyObject *array = PyArray_CheckExact(x) ? x : y;
    if (array == NULL || !PyArray_CheckExact(array) || PyArray_TYPE((PyArrayObject *)array) >= TYPES) {
        return NULL;
    }
    Loop *loop = &loops[slot][PyArray_TYPE((PyArrayObject *)array)];
    PyArrayObject *like = (PyArrayObject *)array;
    npy_intp count = PyArray_SIZE(like);
    if (loop->function == NULL || PyArray_NDIM(like) == 0 || count == 0) {
        return NULL;
    }
    char *data[4];
    npy_intp steps[4] = {0, 0, 0, 0};
    Element number;
    PyObject *given[2] = {x, y};
    PyArray_Descr *wanted[2] = {loop->given, loop->second};
    int nin = y == NULL ? 1 : 2;
    for (int i = 0; i < nin; i++) {
        if (PyArray_CheckExact(given[i])) {
            if (!fits_loop(given[i], wanted[i]) || (i && array == x && !is_same_shape(x, y))) {
                return NULL;
            }
            data[i] = PyArray_BYTES((PyArrayObject *)given[i]);
            steps[i] = PyArray_ITEMSIZE((PyArrayObject *)given[i]);
        }
        else {
            if (loop->second != loop->given ||
                !put_number(given[i], PyArray_TYPE(like), &number)) {
                return NULL;
            }
            data[i] = (char *)&number;
        }
    }
    PyObject *made = empty_like_shape(like, loop->made);
    PyObject *also = loop->also == NULL || made == NULL ? NULL : empty_like_shape(like, loop->also);
    if (made == NULL || (loop->also != NULL && also == NULL)) {
        Py_XDECREF(made);
        return NULL;
    }
    data[nin] = PyArray_BYTES((PyArrayObject *)made);
    steps[nin] = PyArray_ITEMSIZE((PyArrayObject *)made);
    if (also != NULL) {
        data[nin + 1] = PyArray_BYTES((PyArrayObject *)also);
        steps[nin + 1] = PyArray_ITEMSIZE((PyArrayObject *)also);
    }
    if (fetestexcept(telling)) {
        feclearexcept(FE_ALL_EXCEPT);
    }
    npy_intp counts[1] = {count};
    if (count < RELEASED) {
        loop->function(data, counts, steps, loop->data);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        loop->function(data, counts, steps, loop->data);
        Py_END_ALLOW_THREADS
    }
    int flags = fetestexcept(telling);
    if (PyErr_Occurred() || (flags && tell_errors(slot, flags) < 0)) {
        Py_DECREF(made);
        Py_XDECREF(also);
        return NULL;
    }
    if (also == NULL) {
        return made;
    }
    PyObject *both = PyTuple_Pack(2, made, also);
    Py_DECREF(made);
    Py_DECREF(also);
    return both;
}

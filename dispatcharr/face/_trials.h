/* Trials: operations on arrays for which a kernel would pay that is not known to be there.
 *
 * Without one NumPy's own loop is the fastest, so such operations are served like small ones. When
 * so many bytes went by that a look is worth its time, Python is told of the operation that is about to be
 * served: it orders the kernel, or finds out by the clock whether it pays, and sets the limit
 * (face/trials.py). What has paid so is planned where a sketch can be made of it, which is how
 * little planning costs; other operations, on memory that others see for instance, are served up to
 * the limit that the prices set.
 */
static npy_intp trial_from[SLOTS][TYPES]; /* bytes of the result from which on there are trials */
static npy_intp trial_left[SLOTS][TYPES]; /* bytes to go by until the next one */
/* Bytes from which on operations are planned in any case; 0 where their limit says it all. */
static npy_intp firm_limits[SLOTS][TYPES];
static PyObject *trial_hook = NULL;
enum { APART = 8 }; /* operations of its size that follow a trial before the next one, at least */

/* The bytes from which an operation is planned even where no sketch can be made of it. */
static inline npy_intp
firm_limit(int slot, PyObject *x)
{
    npy_intp limit = limit_of(slot, x);
    int type = PyArray_CheckExact(x) ? PyArray_TYPE((PyArrayObject *)x) : TYPES;
    npy_intp firm = type < TYPES ? firm_limits[slot][type] : 0;
    return firm > limit ? firm : limit;
}

/* Count an operation that is about to be served; whether it is to be tried. */
static inline int
is_due(int slot, PyObject *x, npy_intp bytes)
{
    int type = PyArray_CheckExact(x) ? PyArray_TYPE((PyArrayObject *)x) : TYPES;
    if (type >= TYPES || bytes < trial_from[slot][type]) {
        return 0;
    }
    trial_left[slot][type] -= bytes;
    return trial_left[slot][type] <= 0;
}

/* Have Python try an operation; `function` is NULL for that of an operator. It says when the next trial
 * is. -1 where the program was interrupted meanwhile. */
COLD static int
try_out(int slot, PyObject *x, npy_intp bytes, PyObject *function, PyObject *const *args,
        Py_ssize_t nargs, PyObject *kwnames)
{
    int type = PyArray_TYPE((PyArrayObject *)x);
    trial_from[slot][type] = NPY_MAX_INTP;
    PyObject *given = PyTuple_New(nargs), *named = PyDict_New(), *done = NULL;
    for (Py_ssize_t i = 0; given != NULL && i < nargs; i++) {
        PyTuple_SET_ITEM(given, i, Py_NewRef(args[i]));
    }
    Py_ssize_t names = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    int fine = given != NULL && named != NULL && trial_hook != NULL;
    for (Py_ssize_t i = 0; fine && i < names; i++) {
        fine = PyDict_SetItem(named, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]) == 0;
    }
    if (fine) {
        done = PyObject_CallFunction(trial_hook, "iinOOO", slot, type, (Py_ssize_t)bytes,
                                     function == NULL ? Py_None : function, given, named);
    }
    int told = 0;
    if (done == NULL && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_Exception)) {
            PyErr_WriteUnraisable(trial_hook);
        }
        else {
            told = -1;
        }
    }
    /* The operation itself comes next, as if for the first time: it is not to be tried again. */
    if (trial_left[slot][type] < APART * bytes) {
        trial_left[slot][type] = APART * bytes;
    }
    Py_XDECREF(given);
    Py_XDECREF(named);
    Py_XDECREF(done);
    return told;
}

/* The setting of NumPy's memory handler (NEP 49). */
#ifndef DISPATCHARR_HANDLER_H
#define DISPATCHARR_HANDLER_H

/* Set the handler of this context. Before 3.12 the garbage collector runs within an allocation, and so
 * within the change of a context, which does not bear it that a destructor changes the context too. */
static inline PyObject *
set_handler(PyObject *handler)
{
#if PY_VERSION_HEX < 0x030C0000
    int was_on = PyGC_Disable();
    PyObject *before = PyDataMem_SetHandler(handler);
    if (was_on) {
        PyGC_Enable();
    }
    return before;
#else
    return PyDataMem_SetHandler(handler);
#endif
}

#endif

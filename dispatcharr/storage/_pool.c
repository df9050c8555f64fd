/* The reuse pool: large results in memory that earlier results have left.
 *
 * Fresh memory costs as much as the arithmetic: the system has to clear each page before it is first
 * written. So the memory of large results is kept when they die, and the next result of about that
 * size gets it. Arrays of the pool are ordinary arrays that own their data: only the functions that
 * NumPy allocates and frees them by are these (a data memory handler, NumPy's NEP 49).
 *
 * What is kept is bounded three ways. By a limit in bytes. By time: a thread of no interpreter returns
 * to the system what nobody wanted for IDLE seconds; it sleeps while nothing is kept. And by what the
 * program itself has needed: before fresh memory is taken, kept memory goes back as far as the sum
 * would exceed the most that lived at once plus SLACK.
 *
 * Small arrays come from the C library, in the same dress. A block is a mapping of its own. Its data
 * begin on a page (a huge page, where it is large), after a page of which the last bytes describe it.
 * Blocks of one size are a bin. Sizes that NumPy hands back are not relied on: programs may change an
 * array's shape and dtype in place.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>

#include "_handler.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE ((size_t)1 << 16)      /* a multiple of every page size in use */
#define HUGE_PAGE ((size_t)1 << 21)
#define FLOOR ((size_t)1 << 18)     /* below, the C library keeps memory itself */
#define SLACK ((size_t)1 << 25)
#define STEPS 16                    /* sizes per power of two */
#define BINS (STEPS * 30)
#define LARGEST ((size_t)1 << 47)
#define WIDER 3                     /* bins above its own that serve a request: 19 % */
#define IDLE 2.0                    /* seconds */
#define CLEARED ((size_t)1 << 25)   /* from here on zeros come from the system, as with glibc */
#define HEADER 64                   /* bytes before the data in which a small one is described */

typedef struct Block {
    struct Block *older, *newer;    /* neighbours in the bin */
    char *mapping;
    size_t mapped, capacity;
    double freed;                   /* when it was put into the bin */
    int bin;
} Block;

typedef struct {
    Block *oldest, *newest;
} Bin;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t kept_some = PTHREAD_COND_INITIALIZER;
static Bin bins[BINS];
static size_t live, kept, most, limit;
static unsigned long long hits, misses;
static int sweeping;

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static Block *
block_of(void *data)
{
    return (Block *)((char *)data - sizeof(Block));
}

static void *
data_of(Block *block)
{
    return (char *)block + sizeof(Block);
}

/* Return the bin of a size, and round the size up to the bin's. */
static int
bin_of(size_t *size)
{
    int power = 63 - __builtin_clzll((unsigned long long)*size);
    size_t step = ((size_t)1 << power) / STEPS;
    size_t steps = (*size + step - 1) / step;  /* STEPS to 2 * STEPS */
    *size = steps * step;
    int bin = (power - 18) * STEPS + (int)(steps - STEPS);
    return bin;
}

static void
take_out(Block *block)
{
    Bin *bin = &bins[block->bin];
    if (block->older) block->older->newer = block->newer;
    else bin->oldest = block->newer;
    if (block->newer) block->newer->older = block->older;
    else bin->newest = block->older;
    kept -= block->capacity;
}

static void
put_in(Block *block)
{
    Bin *bin = &bins[block->bin];
    block->freed = now();
    block->newer = NULL;
    block->older = bin->newest;
    if (bin->newest) bin->newest->newer = block;
    else bin->oldest = block;
    bin->newest = block;
    kept += block->capacity;
}

/* Take out the block that was kept longest, if it was put in before `before`. */
static Block *
pop_oldest(double before)
{
    Block *found = NULL;
    for (int i = 0; i < BINS; i++) {
        Block *block = bins[i].oldest;
        if (block && block->freed <= before && (!found || block->freed < found->freed)) {
            found = block;
        }
    }
    if (found) take_out(found);
    return found;
}

/* Return memory to the system until at most `bytes` are kept. Called and left with the lock held. */
static void
shrink(size_t bytes)
{
    Block *gone = NULL;
    while (kept > bytes) {
        Block *block = pop_oldest(INFINITY);
        block->older = gone;
        gone = block;
    }
    if (!gone) return;
    pthread_mutex_unlock(&lock);
    while (gone) {
        Block *next = gone->older;
        munmap(gone->mapping, gone->mapped);
        gone = next;
    }
    pthread_mutex_lock(&lock);
}

static void *
sweep(void *unused)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        while (kept == 0) pthread_cond_wait(&kept_some, &lock);
        pthread_mutex_unlock(&lock);
        struct timespec nap = {0, 500000000};
        nanosleep(&nap, NULL);
        pthread_mutex_lock(&lock);
        double before = now() - IDLE;
        for (Block *block; (block = pop_oldest(before)) != NULL;) {
            pthread_mutex_unlock(&lock);
            munmap(block->mapping, block->mapped);
            pthread_mutex_lock(&lock);
        }
    }
    return NULL;
}

/* Wake the sweeping thread, or start it. Called with the lock held. */
static void
watch(void)
{
    if (sweeping) {
        pthread_cond_signal(&kept_some);
        return;
    }
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sweeping = pthread_create(&thread, &attributes, sweep, NULL) == 0;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static Block *
map_fresh(size_t capacity)
{
    size_t alignment = capacity >= 2 * HUGE_PAGE ? HUGE_PAGE : PAGE;
    size_t whole = (capacity + PAGE - 1) / PAGE * PAGE;
    size_t length = PAGE + whole + alignment;
    char *mapping = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return NULL;
    char *data = (char *)(((uintptr_t)mapping + PAGE + alignment - 1) / alignment * alignment);
    /* Give back what stands over on both sides. */
    char *first = data - PAGE, *end = data + whole;
    if (first > mapping) munmap(mapping, (size_t)(first - mapping));
    if (mapping + length > end) munmap(end, (size_t)(mapping + length - end));
#ifdef MADV_HUGEPAGE
    if (alignment == HUGE_PAGE) madvise(data, capacity, MADV_HUGEPAGE);
#endif
    Block *block = block_of(data);
    block->mapping = first;
    block->mapped = (size_t)(end - first);
    block->capacity = capacity;
    return block;
}

/* Memory of the C library, described as a block is. */
static void *
small_malloc(size_t size, int zeroed)
{
    char *memory = zeroed ? calloc(1, size + HEADER) : malloc(size + HEADER);
    if (!memory) return NULL;
    Block *block = block_of(memory + HEADER);
    block->mapping = NULL;
    block->capacity = size;
    return memory + HEADER;
}

/* A block of at least `size` bytes: a kept one, cleared where zeros are asked for, or a new one. */
static void *
take(size_t size, int zeroed)
{
    if (size > LARGEST) return NULL;
    if (size < FLOOR || limit == 0) return small_malloc(size, zeroed);
    size_t capacity = size;
    int bin = bin_of(&capacity);
    pthread_mutex_lock(&lock);
    Block *block = NULL;
    int fresh = zeroed && size >= CLEARED;
    for (int i = bin; i <= bin + WIDER && i < BINS && !block && !fresh; i++) {
        block = bins[i].newest;
    }
    int used = block != NULL;
    if (block) {
        take_out(block);
        hits++;
    }
    else {
        misses++;
        size_t room = most + SLACK, needed = live + capacity;
        shrink(room > needed ? room - needed : 0);
        pthread_mutex_unlock(&lock);
        block = map_fresh(capacity);
        pthread_mutex_lock(&lock);
        if (!block) {
            shrink(0);
            pthread_mutex_unlock(&lock);
            block = map_fresh(capacity);
            if (!block) return NULL;
            pthread_mutex_lock(&lock);
        }
        block->bin = bin;
    }
    live += block->capacity;
    if (live > most) most = live;
    pthread_mutex_unlock(&lock);
    if (zeroed && used) memset(data_of(block), 0, size);
    return data_of(block);
}

static void *
pool_malloc(void *context, size_t size)
{
    return take(size, 0);
}

/* Large ones are no kept memory: the system supplies zeros page by page, when they are looked at. */
static void *
pool_calloc(void *context, size_t count, size_t size)
{
    if (size && count > LARGEST / size) return NULL;
    return take(count * size, 1);
}

static void
pool_free(void *context, void *data, size_t size)
{
    if (!data) return;
    Block *block = block_of(data);
    if (!block->mapping) {
        free((char *)data - HEADER);
        return;
    }
    pthread_mutex_lock(&lock);
    live -= block->capacity;
    put_in(block);
    shrink(limit);
    if (kept) watch();
    pthread_mutex_unlock(&lock);
}

static void *
pool_realloc(void *context, void *data, size_t size)
{
    if (!data) return pool_malloc(context, size);
    Block *block = block_of(data);
    size_t capacity = block->capacity;
    if (!block->mapping && size < FLOOR) {
        char *memory = realloc((char *)data - HEADER, size + HEADER);
        if (!memory) return NULL;
        block_of(memory + HEADER)->capacity = size;
        return memory + HEADER;
    }
    if (block->mapping && size <= capacity && size >= capacity / 2) return data;
    void *moved = pool_malloc(context, size);
    if (!moved) return NULL;
    memcpy(moved, data, size < capacity ? size : capacity);
    pool_free(context, data, capacity);
    return moved;
}

static PyDataMem_Handler handler = {
    "dispatcharr", 1, {NULL, pool_malloc, pool_calloc, pool_realloc, pool_free}};
static PyObject *capsule;

/* A child has no sweeping thread, and what its parent keeps is of no use to it; the lock is taken
 * over in a known state. */
static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }
static void
in_child(void)
{
    sweeping = 0;
    pthread_cond_init(&kept_some, NULL);
    shrink(0);
    pthread_mutex_unlock(&lock);
}

static PyObject *
py_empty(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "empty: wanted a shape, a dtype and strides or None");
        return NULL;
    }
    PyArray_Dims shape = {NULL, 0}, strides = {NULL, 0};
    PyArray_Descr *descr = NULL;
    PyObject *array = NULL, *before = NULL;
    if (!PyArray_IntpConverter(args[0], &shape) || !PyArray_DescrConverter(args[1], &descr)) {
        goto done;
    }
    if (args[2] != Py_None && !PyArray_IntpConverter(args[2], &strides)) goto done;
    if (strides.ptr && strides.len != shape.len) {
        PyErr_SetString(PyExc_ValueError, "empty: as many strides as dimensions are wanted");
        goto done;
    }
    before = set_handler(capsule);
    if (before) {
        array = PyArray_NewFromDescr(&PyArray_Type, descr, shape.len, shape.ptr, strides.ptr, NULL,
                                     0, NULL);
        descr = NULL;
        /* Kept aside, for setting a context variable must not meet a pending MemoryError. */
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        PyObject *ours = set_handler(before);
        if (!ours) Py_CLEAR(array);
        else if (type) PyErr_Restore(type, value, trace);
        Py_XDECREF(ours);
    }
done:
    Py_XDECREF(before);
    Py_XDECREF(descr);
    PyDimMem_FREE(shape.ptr);
    PyDimMem_FREE(strides.ptr);
    return array;
}

/* Put the pool's handler in force in this context and return the one that was; None where it stays.
 * `leave` gives it back. */
static PyObject *
py_enter(PyObject *module, PyObject *unused)
{
    PyObject *before = PyDataMem_GetHandler();
    if (before && before != PyDataMem_DefaultHandler) {
        Py_DECREF(before);  /* the program has one of its own */
        Py_RETURN_NONE;
    }
    Py_XDECREF(before);
    return before ? set_handler(capsule) : NULL;
}

static PyObject *
py_leave(PyObject *module, PyObject *before)
{
    PyObject *ours = set_handler(before);
    if (!ours) return NULL;
    Py_DECREF(ours);
    Py_RETURN_NONE;
}

static PyObject *
py_set_limit(PyObject *module, PyObject *bytes)
{
    size_t wanted = PyLong_AsSize_t(bytes);
    if (wanted == (size_t)-1 && PyErr_Occurred()) return NULL;
    pthread_mutex_lock(&lock);
    limit = wanted;
    shrink(limit);
    pthread_mutex_unlock(&lock);
    Py_RETURN_NONE;
}

static PyObject *
py_release(PyObject *module, PyObject *unused)
{
    pthread_mutex_lock(&lock);
    shrink(0);
    pthread_mutex_unlock(&lock);
    Py_RETURN_NONE;
}

static PyObject *
py_state(PyObject *module, PyObject *unused)
{
    pthread_mutex_lock(&lock);
    unsigned long long found[] = {live, kept, most, limit, hits, misses};
    pthread_mutex_unlock(&lock);
    return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K}", "used", found[0], "kept", found[1], "most",
                         found[2], "limit", found[3], "hits", found[4], "misses", found[5]);
}

static PyMethodDef methods[] = {
    {"empty", (PyCFunction)(void (*)(void))py_empty, METH_FASTCALL,
     "An uninitialised array of a shape, a dtype and strides (None for C order), of the pool."},
    {"enter", py_enter, METH_NOARGS, "Allocate arrays by the pool; return what did it before."},
    {"leave", py_leave, METH_O, "Allocate arrays by what `enter` returned."},
    {"set_limit", py_set_limit, METH_O, "Set how many bytes may be kept."},
    {"release", py_release, METH_NOARGS, "Return all that is kept to the system."},
    {"state", py_state, METH_NOARGS, "Bytes used, kept, most used at once, the limit; hits, misses."},
    {NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_pool_c",
    .m_doc = "Large arrays in memory that earlier ones have left.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__pool_c(void)
{
    import_array();
    capsule = PyCapsule_New(&handler, "mem_handler", NULL);
    if (!capsule) return NULL;
    if (pthread_atfork(before_fork, after_fork, in_child) != 0) return PyErr_NoMemory();
    PyObject *module = PyModule_Create(&module_def);
    if (module && (PyModule_AddIntConstant(module, "FLOOR", (long)FLOOR) < 0 ||
                   PyModule_AddObjectRef(module, "HANDLER", capsule) < 0)) {
        Py_CLEAR(module);
    }
    return module;
}

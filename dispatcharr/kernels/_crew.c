/* The crew: threads that run compiled kernels and never touch the interpreter.
 *
 * A run is a kernel, its table of arguments and tasks, each a few boxes of its space. The calling
 * thread gives the interpreter's lock back once, calls helpers and works; helpers are a bonus, as
 * in kernels/pool.py: a run never waits for one that has not begun.
 *
 * - Tasks are cut into one lane of neighbours per thread, so that a thread finds in its core's
 *   cache what it left there. A thread takes its own tasks from the front and, when it has none
 *   left, those of others from the back: load balances without a lock.
 * - Helpers sleep, and are woken by those before them (each wakes two), since waking one takes the
 *   waker some microseconds. A CPU that has slept is slow to come back (a virtual one takes up to
 *   0.1 ms), so where runs follow each other within SPIN helpers look out for the next one that
 *   long before they sleep. A run that comes later ends that: a program that is idle, or does
 *   something else, has no thread that spins. (Giving way in between was measured: whoever is let
 *   in stays for milliseconds, and on a busy machine helpers never come.)
 * - Where the system has put a helper onto the caller's CPU it is in the way: a helper that looks out
 *   keeps its CPU. It neither looks out nor works there, and steps aside, to any other CPU. (For the
 *   milliseconds until the system moved it, each run on 30,000 elements took 250 us instead of 40.)
 * - One run has the crew; a run that finds it taken, by another thread or by the one whose signal
 *   handler or finaliser it is in, is done by its own thread alone.
 * - Helpers compute in the floating-point environment of the caller. Errors are told by kernels
 *   themselves, which gather them in their table of arguments.
 * - Signals are handled between tasks, every PATIENCE at most. A handler that raises ends the run:
 *   tasks that have begun end, the others are dropped.
 * - A forked child has no helpers until it needs some. Helpers are never joined: asleep they hold
 *   nothing, and the end of the process takes them.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#define MOST 256                /* threads of a run, the caller included */
#define SPIN 200e-6             /* seconds: planning a kernel takes up to 100 us */
#define RECENT 8                /* runs */
#define RARELY 10e-3            /* seconds between two steps aside */
#define ENDING 50e-6            /* seconds that the caller looks out for the end before it sleeps */
#define PATIENCE 50e-3          /* seconds */
#define STACK ((size_t)1 << 22) /* bytes: kernels stage operands; some C libraries give little */
/* The gate: helpers that entered, whether it is open, and above that the number of the run. */
#define OPEN ((uint64_t)1 << 32)
#define NEXT ((uint64_t)1 << 33)

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

typedef void (*Kernel)(void *args, void *box);

/* Tasks first to end - 1, in one word: both ends are taken from. */
typedef struct {
    _Alignas(128) _Atomic uint64_t ends;
} Lane;

typedef struct {
    Kernel kernel;
    char *args, *boxes;
    Py_ssize_t apart;           /* bytes from a box to the next */
    Py_ssize_t stride;          /* bytes from a task's arguments to the next one's */
    const int64_t *starts;      /* the first box of each task, and the end; NULL: one box for all
                                   tasks of a lane, memory to work in */
    int width;
    fenv_t environment;
} Job;

typedef struct {
    _Alignas(128) pthread_mutex_t mutex;
    pthread_cond_t wake;
    _Atomic int asleep;
    uint64_t seen;              /* the number of the last run that it knows of */
    double stepped;             /* when it has stepped aside last */
#ifdef __linux__
    cpu_set_t cpus;             /* where it may be */
#endif
} Helper;

static Job job;
static Lane lanes[MOST];
static Helper helpers[MOST];    /* the one at i works in lane i + 1 */
static int started;             /* changed by who has the crew */
static _Atomic int taken;       /* whether a run has the crew */
static _Atomic int callers;     /* threads of the program that are in `run` now */
static _Atomic uint64_t gate;
static _Atomic uint64_t left;   /* helpers that have left the run */
static _Atomic int watched;     /* whether the caller waits for that in `all_left` */
static pthread_mutex_t ending = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_left = PTHREAD_COND_INITIALIZER;
static _Atomic int caller_cpu = -1; /* where the thread was that began the last run */
static _Atomic int brisk;       /* whether runs follow each other within SPIN */
static double ended;            /* when the last run did that had helpers */
static double done;             /* when the last run did, whoever ran it */
static double closeness;        /* share of the latest runs that came within SPIN of the one before */
static int forks;               /* between the process in which this was loaded and this one */

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The CPU of this thread; -1 where the system does not tell. */
static int
this_cpu(void)
{
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

/* Whether this helper is on the CPU that the caller has been on. */
static int
is_in_the_way(void)
{
    int cpu = this_cpu();
    return cpu >= 0 && cpu == atomic_load_explicit(&caller_cpu, memory_order_relaxed);
}

/* Leave the CPU that the caller has been on. */
static void
step_aside(Helper *me)
{
#ifdef __linux__
    double time = now();
    cpu_set_t others = me->cpus;
    if (time - me->stepped < RARELY) return;
    me->stepped = time;
    CPU_CLR(this_cpu(), &others);
    if (CPU_COUNT(&others)) sched_setaffinity(0, sizeof(others), &others);
#endif
}

static void
fill_lane(int lane, uint64_t first, uint64_t end)
{
    atomic_store_explicit(&lanes[lane].ends, first | end << 32, memory_order_relaxed);
}

/* Take a task of a lane, from the front or the back; -1 if none is left. */
static int64_t
take(int lane, int front)
{
    uint64_t ends = atomic_load_explicit(&lanes[lane].ends, memory_order_relaxed);
    for (;;) {
        uint64_t first = ends & UINT32_MAX, end = ends >> 32;
        if (first >= end) return -1;
        uint64_t rest = front ? (first + 1) | end << 32 : first | (end - 1) << 32;
        if (atomic_compare_exchange_weak_explicit(&lanes[lane].ends, &ends, rest,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            return (int64_t)(front ? first : end - 1);
        }
    }
}

static int64_t
next_task(int own, int width)
{
    int64_t task = take(own, 1);
    for (int i = 1; task < 0 && i < width; i++) task = take((own + i) % width, 0);
    return task;
}

static void
run_task(const Job *it, int64_t task, int lane)
{
    int64_t box = it->starts ? it->starts[task] : lane;
    int64_t end = it->starts ? it->starts[task + 1] : lane + 1;
    for (; box < end; box++) it->kernel(it->args + task * it->stride, it->boxes + box * it->apart);
}

static void
wake(int number)
{
    Helper *helper = &helpers[number];
    if (!atomic_load(&helper->asleep)) return;
    pthread_mutex_lock(&helper->mutex);
    pthread_mutex_unlock(&helper->mutex);  /* it waits, or looks at the gate next */
    pthread_cond_signal(&helper->wake);
}

/* Wake the helpers that the thread of this lane is to wake. */
static void
wake_two(int lane, int width)
{
    for (int next = 2 * lane + 1; next <= 2 * lane + 2 && next < width; next++) wake(next - 1);
}

/* Wait for a run that this helper does not know of. */
static void
await(Helper *me)
{
    if (atomic_load_explicit(&brisk, memory_order_relaxed)) {
        double end = now() + SPIN;
        do {
            for (int i = 0; i < 16; i++) {
                if (atomic_load(&gate) / NEXT != me->seen) return;
                PAUSE();
            }
        } while (now() < end && !is_in_the_way());
    }
    if (is_in_the_way()) step_aside(me);
    pthread_mutex_lock(&me->mutex);
    atomic_store(&me->asleep, 1);
    while (atomic_load(&gate) / NEXT == me->seen) pthread_cond_wait(&me->wake, &me->mutex);
    atomic_store(&me->asleep, 0);
    pthread_mutex_unlock(&me->mutex);
}

/* Join the run that is open; 0 if none is. */
static int
enter(Helper *me)
{
    uint64_t state = atomic_load(&gate);
    do {
        me->seen = state / NEXT;
        if (!(state & OPEN)) return 0;
    } while (!atomic_compare_exchange_weak(&gate, &state, state + 1));
    return 1;
}

static void
leave(void)
{
    atomic_fetch_add(&left, 1);
    if (!atomic_load(&watched)) return;
    pthread_mutex_lock(&ending);
    pthread_mutex_unlock(&ending);
    pthread_cond_signal(&all_left);
}

static void *
serve(void *argument)
{
    Helper *me = argument;
    int lane = (int)(me - helpers) + 1;
#ifdef __linux__
    prctl(PR_SET_NAME, "dispatcharr-c");  /* for debuggers and profilers */
    if (sched_getaffinity(0, sizeof(me->cpus), &me->cpus) != 0) CPU_ZERO(&me->cpus);
#endif
    for (;;) {
        await(me);
        if (!enter(me)) continue;
        int width = job.width;
        if (lane < width) {
            wake_two(lane, width);
            if (!is_in_the_way()) {
                fesetenv(&job.environment);
                for (int64_t task; (task = next_task(lane, width)) >= 0;) run_task(&job, task, lane);
            }
        }
        leave();
    }
    return NULL;
}

/* Start helpers as far as they are missing; return how many there are. */
static int
have(int wanted)
{
    sigset_t all, before;
    if (started >= wanted) return wanted;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < wanted) {
        Helper *helper = &helpers[started];
        pthread_attr_t attributes;
        pthread_t thread;
        pthread_mutex_init(&helper->mutex, NULL);
        pthread_cond_init(&helper->wake, NULL);
        atomic_store(&helper->asleep, 0);
        helper->seen = atomic_load(&gate) / NEXT;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, STACK);
        int failed = pthread_create(&thread, &attributes, serve, helper);
        pthread_attr_destroy(&attributes);
        if (failed) break;  /* no more allowed: those there are have to do */
        started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started < wanted ? started : wanted;
}

/* Handle signals if some time has passed; false if a handler has raised, or has forked and this is
 * the child: what helpers were about is lost in there. */
static int
uninterrupted(PyThreadState **state, double *looked, int helped)
{
    double time = now();
    if (time - *looked < PATIENCE) return 1;
    int before = forks;
    PyEval_RestoreThread(*state);
    int raised = PyErr_CheckSignals();
    if (!raised && helped && before != forks) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the process was forked by a signal handler while a kernel ran, and what "
                        "other threads were doing for it is lost in the child; compute it again");
        raised = -1;
    }
    *state = PyEval_SaveThread();
    *looked = now();
    return raised == 0;
}

static int
run_alone(const Job *it, Py_ssize_t count)
{
    int whole = 1;
    PyThreadState *state = PyEval_SaveThread();
    double looked = now();
    for (int64_t task = 0; task < count && whole; task++) {
        run_task(it, task, 0);
        if (task + 1 < count) whole = uninterrupted(&state, &looked, 0);
    }
    PyEval_RestoreThread(state);
    return whole;
}

/* Wait until all who have entered have left. */
static void
wait_for_all(void)
{
    uint64_t entered = atomic_fetch_and(&gate, ~OPEN) & (OPEN - 1);
    double end = 0;
    while (atomic_load(&left) != entered) {
        for (int i = 0; i < 16; i++) PAUSE();
        double time = now();
        if (end == 0) end = time + ENDING;
        if (time < end) continue;
        pthread_mutex_lock(&ending);
        atomic_store(&watched, 1);
        while (atomic_load(&left) != entered) pthread_cond_wait(&all_left, &ending);
        atomic_store(&watched, 0);
        pthread_mutex_unlock(&ending);
    }
}

/* Run tasks with helpers, having the crew. */
static int
run_together(const Job *given, Py_ssize_t count, int width)
{
    job = *given;
    job.width = width;
    fegetenv(&job.environment);
    for (int lane = 0; lane < width; lane++) {
        fill_lane(lane, (uint64_t)count * lane / width, (uint64_t)count * (lane + 1) / width);
    }
    atomic_store(&left, 0);
    atomic_store_explicit(&caller_cpu, this_cpu(), memory_order_relaxed);
    PyThreadState *state = PyEval_SaveThread();
    double looked = now();
    atomic_store_explicit(&brisk, looked - ended < SPIN, memory_order_relaxed);
    atomic_store(&gate, (atomic_load(&gate) / NEXT + 1) * NEXT + OPEN);
    wake_two(0, width);
    int whole = 1;
    for (int64_t task; whole && (task = next_task(0, width)) >= 0;) {
        run_task(&job, task, 0);
        whole = uninterrupted(&state, &looked, 1);
    }
    if (!whole) {
        for (int lane = 0; lane < width; lane++) fill_lane(lane, 0, 0);
    }
    wait_for_all();
    ended = now();
    PyEval_RestoreThread(state);
    return whole;
}

static PyObject *
py_run(PyObject *module, PyObject *const *args, Py_ssize_t given)
{
    if (given != 8) {
        PyErr_SetString(PyExc_TypeError, "run: wanted kernel, args, stride, boxes, apart, starts, "
                                         "count, threads");
        return NULL;
    }
    Job it;
    it.kernel = (Kernel)PyLong_AsVoidPtr(args[0]);
    it.args = PyLong_AsVoidPtr(args[1]);
    it.stride = PyLong_AsSsize_t(args[2]);
    it.boxes = PyLong_AsVoidPtr(args[3]);
    it.apart = PyLong_AsSsize_t(args[4]);
    it.starts = PyLong_AsVoidPtr(args[5]);
    Py_ssize_t count = PyLong_AsSsize_t(args[6]);
    long threads = PyLong_AsLong(args[7]);
    if (PyErr_Occurred()) return NULL;
    if (count < 0 || count > INT32_MAX || threads < 1) {
        PyErr_Format(PyExc_ValueError, "run: wanted 0 to 2**31 - 1 tasks and a thread at least, "
                                       "got %zd and %ld", count, threads);
        return NULL;
    }
    /* Threads that the program itself has at work here count among those that there may be. */
    int before = forks;
    closeness += ((now() - done < SPIN) - closeness) / RECENT;
    long wanted = threads - atomic_fetch_add(&callers, 1);
    if (wanted > count) wanted = count;
    if (wanted > MOST) wanted = MOST;
    int width = 1, whole, free = 0;
    if (wanted > 1 && atomic_compare_exchange_strong(&taken, &free, 1)) {
        width = have((int)wanted - 1) + 1;
        whole = width > 1 ? run_together(&it, count, width) : run_alone(&it, count);
        if (before == forks) atomic_store(&taken, 0);
    }
    else whole = run_alone(&it, count);
    if (before == forks) atomic_fetch_sub(&callers, 1);
    done = now();
    return whole ? PyLong_FromLong(width) : NULL;
}

/* A kernel to measure with: as many dependent multiplications as its argument says. */
static void
work(void *args, void *box)
{
    uint64_t number = 1;
    for (int64_t i = *(int64_t *)args; i > 0; i--) number = number * 6364136223846793005u + 1;
    __asm__ volatile("" : : "r"(number));
}

static PyObject *
py_started(PyObject *module, PyObject *unused)
{
    return PyLong_FromLong(started);
}

static PyObject *
py_closeness(PyObject *module, PyObject *unused)
{
    return PyFloat_FromDouble(closeness);
}

/* What the parent's other threads were about is lost, and so are its helpers. */
static void
in_child(void)
{
    started = 0;
    forks++;
    atomic_store(&taken, 0);
    atomic_store(&callers, 0);
    atomic_store(&left, 0);
    atomic_store(&watched, 0);
    atomic_fetch_and(&gate, ~(NEXT - 1));
    pthread_mutex_init(&ending, NULL);
    pthread_cond_init(&all_left, NULL);
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))py_run, METH_FASTCALL,
     "Run the tasks of a kernel on at most so many threads; return how many were called."},
    {"closeness", py_closeness, METH_NOARGS,
     "Which share of the latest runs followed the one before closely."},
    {"started", py_started, METH_NOARGS, "How many helpers there are."},
    {NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_crew_c",
    .m_doc = "Threads that run compiled kernels.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__crew_c(void)
{
    if (pthread_atfork(NULL, NULL, in_child) != 0) return PyErr_NoMemory();
    PyObject *module = PyModule_Create(&module_def);
    PyObject *probe = module ? PyLong_FromVoidPtr((void *)work) : NULL;
    if (module && (!probe || PyModule_AddObjectRef(module, "PROBE", probe) < 0)) Py_CLEAR(module);
    Py_XDECREF(probe);
    return module;
}

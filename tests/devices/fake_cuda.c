/* A CUDA driver for tests: device memory is memory, and streams do nothing until they must.
 *
 * What is queued in a stream runs when somebody waits for the stream or for an event in it, and not
 * before; a stream that waits for an event runs what the event stands behind. So work that lacks an
 * event runs too late, and a buffer that is used again too early has been overwritten. Kernels are
 * those at the end of this file, found by name. fake_fail() has a function fail.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t address;
typedef struct stream stream;
typedef struct { stream *in; long position; int timed; double when; } event;
typedef void (*body)(int64_t *words, unsigned grid, unsigned block);
typedef struct { const char *name; body run; int words; } kernel;
typedef struct { int what; address target, source; size_t size; event *marked; stream *other;
                 long until; const kernel *kernel; unsigned grid, block; int64_t *words; } task;
struct stream { task *tasks; long count, done, room; };
enum { COPY, WAIT, RUN, FREE };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread void *current;
static int context, initialised, pools = 1, poison;
static size_t total = (size_t)1 << 30, used, pool_held, host_limit = (size_t)1 << 40;
static double clock_;

/* Counting calls, and having them fail. */
enum { NAMES = 64 };
static struct { char name[48]; long calls, fail_at; int code; } seen[NAMES];
static int seen_count;

static int look(const char *name) {
    for (int i = 0; i < seen_count; i++)
        if (strcmp(seen[i].name, name) == 0) return i;
    strcpy(seen[seen_count].name, name);
    seen[seen_count].fail_at = -1;
    return seen_count++;
}
void fake_fail(const char *name, long after, int code) {
    int i = look(name);
    seen[i].fail_at = seen[i].calls + after;
    seen[i].code = code;
}
long fake_calls(const char *name) { return seen[look(name)].calls; }
void fake_set(int pools_, size_t total_, size_t host_limit_) {
    pools = pools_; total = total_; host_limit = host_limit_;
}
size_t fake_used(void) { return used; }
long fake_under_way(void);
void fake_forget_context(void) { current = (void *)&clock_; }
static int telling;
void fake_tell_at_the_end(void) { telling = 1; }
__attribute__((destructor)) static void tell(void) {
    if (telling) printf("%ld\n", fake_calls("cuMemFreeAsync"));
}
int fake_context_is_current(void) { return current == &context; }

static int enter_(const char *name, int wants_context) {
    int i = look(name);
    long call = seen[i].calls++;
    if (poison) return poison;
    if (seen[i].fail_at >= 0 && call == seen[i].fail_at) return seen[i].code;
    if (!initialised && strcmp(name, "cuInit") && strncmp(name, "cuGetError", 10)) return 3;
    if (wants_context && current != &context) return 201;
    return 0;
}
#define ENTER(wants) int code = (pthread_mutex_lock(&lock), enter_(__func__, wants)); \
    if (code) { pthread_mutex_unlock(&lock); return code; }
#define LEAVE(value) do { int v_ = (value); pthread_mutex_unlock(&lock); return v_; } while (0)

static void give_back(address target);
static void run_until(stream *s, long until) {
    while (s->done < until && !poison) {
        task t = s->tasks[s->done];
        if (t.what == WAIT) {
            if (t.other) run_until(t.other, t.until);
        } else if (t.what == COPY) memmove((void *)t.target, (void *)t.source, t.size);
        else if (t.what == FREE) give_back(t.target);
        else if (t.what == RUN) {
            if (t.kernel->run) t.kernel->run(t.words, t.grid, t.block);
            else poison = 700;
            free(t.words);
        }
        clock_ += 1e-3;
        s->done++;
    }
}
static stream *streams[16];
static int stream_count;
long fake_under_way(void) {
    long left = 0;
    for (int i = 0; i < stream_count; i++)
        for (long j = streams[i]->done; j < streams[i]->count; j++)
            left += streams[i]->tasks[j].what == COPY;
    return left;
}
static void push(stream *s, task t) {
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 64;
        s->tasks = realloc(s->tasks, (size_t)s->room * sizeof(task));
    }
    s->tasks[s->count++] = t;
}

int cuInit(unsigned flags) { (void)flags; ENTER(0) initialised = 1; LEAVE(0); }
int cuDriverGetVersion(int *v) { ENTER(0) *v = 13000; LEAVE(0); }
int cuGetErrorName(int c, const char **t) {
    *t = c == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : c == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS"
       : c == 400 ? "CUDA_ERROR_INVALID_HANDLE" : c == 12345 ? NULL : "CUDA_ERROR_OTHER";
    return *t ? 0 : 1;
}
int cuGetErrorString(int c, const char **t) { *t = c == 12345 ? NULL : "what it means"; return *t ? 0 : 1; }
int cuDeviceGetCount(int *n) { ENTER(0) *n = 1; LEAVE(0); }
int cuDeviceGet(int *d, int ordinal) { ENTER(0) *d = ordinal; LEAVE(ordinal ? 101 : 0); }
int cuDeviceGetName(char *name, int length, int d) {
    (void)d; ENTER(0) strncpy(name, "Fake H100", (size_t)length); LEAVE(0);
}
int cuDeviceGetUuid_v2(unsigned char *u, int d) {
    (void)d; ENTER(0) for (int i = 0; i < 16; i++) u[i] = (unsigned char)i; LEAVE(0);
}
int cuDeviceTotalMem_v2(size_t *n, int d) { (void)d; ENTER(0) *n = total; LEAVE(0); }
int cuDeviceGetAttribute(int *v, int which, int d) {
    (void)d;
    ENTER(0)
    switch (which) {
    case 13: *v = 1980000; break;
    case 16: *v = 132; break;
    case 36: *v = 2619000; break;
    case 37: *v = 5120; break;
    case 38: *v = 50 << 20; break;
    case 75: *v = 9; break;
    case 76: *v = 0; break;
    case 87: *v = 2; break;
    case 115: *v = pools; break;
    default: LEAVE(1);
    }
    LEAVE(0);
}
int cuDevicePrimaryCtxRetain(void **c, int d) { (void)d; ENTER(0) *c = &context; LEAVE(0); }
int cuCtxSetCurrent(void *c) { ENTER(0) current = c; LEAVE(0); }
int cuCtxGetCurrent(void **c) { ENTER(0) *c = current; LEAVE(0); }
int cuStreamCreate(stream **s, unsigned flags) {
    ENTER(1) streams[stream_count++] = *s = calloc(1, sizeof(stream)); LEAVE(flags == 1 ? 0 : 1);
}
int cuStreamSynchronize(stream *s) { ENTER(1) run_until(s, s->count); LEAVE(poison); }
int cuStreamWaitEvent(stream *s, event *e, unsigned flags) {
    ENTER(1)
    if (flags) LEAVE(1);
    push(s, (task){.what = WAIT, .other = e->in, .until = e->position});
    LEAVE(0);
}
int cuEventCreate(event **e, unsigned flags) {
    ENTER(1) *e = calloc(1, sizeof(event)); (*e)->timed = !(flags & 2); LEAVE(flags > 3 ? 1 : 0);
}
int cuEventRecord(event *e, stream *s) { ENTER(1) e->in = s; e->position = s->count; LEAVE(0); }
int cuEventQuery(event *e) { ENTER(1) LEAVE(!e->in || e->in->done >= e->position ? 0 : 600); }
int cuEventSynchronize(event *e) {
    ENTER(1)
    if (e->in) run_until(e->in, e->position);
    e->when = clock_;
    LEAVE(poison);
}
int cuEventElapsedTime(float *ms, event *a, event *b) {
    ENTER(1)
    if (!a->timed || !b->timed || !a->in || !b->in) LEAVE(400);
    if (a->in->done < a->position || b->in->done < b->position) LEAVE(600);
    *ms = (float)(b->position - a->position);
    LEAVE(0);
}

/* Memory: a header before each piece has its size. */
static int take(address *out, size_t size) {
    if (used + size > total) return 2;
    char *whole = aligned_alloc(256, (size + 511) / 256 * 256);
    *(size_t *)whole = size;
    memset(whole + 256, 0xA5, size);
    used += size;
    *out = (address)(whole + 256);
    return 0;
}
static void give_back(address target) {
    char *whole = (char *)target - 256;
    used -= *(size_t *)whole;
    memset(whole, 0xDD, 256);
    free(whole);
}
typedef struct { int type, handles, location, id; void *security; size_t most; unsigned short usage;
                 unsigned char reserved[54]; } pool_props;
int cuMemPoolCreate(void **pool, const pool_props *p) {
    ENTER(1)
    for (int i = 0; i < 54; i++) if (p->reserved[i]) LEAVE(1);
    if (p->type != 1 || p->handles || p->location != 1 || p->id || p->security || p->most) LEAVE(1);
    *pool = &pool_held;
    LEAVE(0);
}
int cuMemPoolSetAttribute(void *pool, int which, uint64_t *v) {
    (void)v; ENTER(1) LEAVE(pool == &pool_held && which == 4 ? 0 : 1);
}
int cuMemPoolGetAttribute(void *pool, int which, uint64_t *v) {
    (void)pool; ENTER(1) *v = which == 5 ? used + pool_held : used; LEAVE(which == 5 || which == 7 ? 0 : 1);
}
int cuMemPoolTrimTo(void *pool, size_t keep) { (void)pool; (void)keep; ENTER(1) LEAVE(0); }
int cuMemAllocFromPoolAsync(address *out, size_t size, void *pool, stream *s) {
    (void)s; ENTER(1) LEAVE(pool != &pool_held || !size ? 1 : take(out, size));
}
int cuMemFreeAsync(address target, stream *s) {
    ENTER(1) push(s, (task){.what = FREE, .target = target}); LEAVE(0);
}
int cuMemAlloc_v2(address *out, size_t size) { ENTER(1) LEAVE(take(out, size)); }
int cuMemFree_v2(address target) { ENTER(1) give_back(target); LEAVE(0); }
int cuMemGetInfo_v2(size_t *f, size_t *t) { ENTER(1) *f = total - used; *t = total; LEAVE(0); }
int cuMemHostAlloc(void **out, size_t size, unsigned flags) {
    ENTER(1)
    if (flags & ~3u) LEAVE(1);
    if (size > host_limit) LEAVE(2);
    *out = calloc(1, size);
    LEAVE(0);
}
int cuMemFreeHost(void *host) { ENTER(1) free(host); LEAVE(0); }
int cuMemHostGetDevicePointer_v2(address *out, void *host, unsigned flags) {
    ENTER(1) *out = (address)host; LEAVE(flags ? 1 : 0);
}
int cuMemcpyHtoDAsync_v2(address target, const void *source, size_t size, stream *s) {
    ENTER(1)
    push(s, (task){.what = COPY, .target = target, .source = (address)source, .size = size});
    LEAVE(0);
}
int cuMemcpyDtoHAsync_v2(void *target, address source, size_t size, stream *s) {
    ENTER(1)
    push(s, (task){.what = COPY, .target = (address)target, .source = source, .size = size});
    LEAVE(0);
}
int cuMemcpyDtoDAsync_v2(address target, address source, size_t size, stream *s) {
    ENTER(1)
    push(s, (task){.what = COPY, .target = target, .source = source, .size = size});
    LEAVE(0);
}

/* Kernels. Words: where, how many bytes or elements, and what each is about. */
static void add(int64_t *w, unsigned grid, unsigned block) {
    (void)grid; (void)block;
    for (int64_t i = 0; i < w[1]; i++) ((unsigned char *)w[0])[i] += (unsigned char)w[2];
}
static void shape(int64_t *w, unsigned grid, unsigned block) {
    ((int64_t *)w[0])[0] = grid;
    ((int64_t *)w[0])[1] = block;
    ((int64_t *)w[0])[2] = w[1];
}
static void flag(int64_t *w, unsigned grid, unsigned block) {
    (void)grid; (void)block;
    *(uint64_t *)w[0] |= (uint64_t)w[1];
}
static void many(int64_t *w, unsigned grid, unsigned block) {
    (void)grid; (void)block;
    int64_t sum = 0;
    for (int i = 1; i < 600; i++) sum += w[i];
    *(int64_t *)w[0] = sum;
}
static const kernel kernels[] = {
    {"add", add, 3}, {"shape", shape, 2}, {"flag", flag, 2}, {"many", many, 600}, {"crash", 0, 1},
};
int cuModuleLoadData(void **module, const void *image) {
    ENTER(1) *module = (void *)kernels; LEAVE(memcmp(image, "image", 5) ? 200 : 0);
}
int cuModuleGetFunction(const kernel **out, void *module, const char *name) {
    (void)module;
    ENTER(1)
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (strcmp(kernels[i].name, name) == 0) { *out = &kernels[i]; LEAVE(0); }
    LEAVE(500);
}
int cuLaunchKernel(const kernel *k, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, stream *s, void **parameters, void **extra) {
    ENTER(1)
    if (gy != 1 || gz != 1 || by != 1 || bz != 1 || shared || extra || !gx || !bx) LEAVE(1);
    int64_t *words = malloc((size_t)k->words * 8);
    memcpy(words, parameters[0], (size_t)k->words * 8);
    push(s, (task){.what = RUN, .kernel = k, .grid = gx, .block = bx, .words = words});
    LEAVE(0);
}

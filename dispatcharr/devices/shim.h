// CUDA C++ on the CPU, for tests: a kernel's text behind this header is plain C++.
//
// What it is true to: blocks run one after another; every thread of a block is a fiber that runs
// up to its next barrier, in an order that the caller chooses, so a missing barrier shows as a
// result that depends on the order, and a barrier that only some threads reach is counted.
// Shared memory is full of NaN when a block starts. What it cannot show: memory models between
// blocks, the timing of warps, the last bits of CUDA's mathematical functions, limits of launches.
//
// Nothing is included: a kernel compiles in a few hundredths of a second because of it.
//
// SHIM_FIBERS    the text has barriers, shuffles or votes: run threads as fibers, not as a loop
// SHIM_UCONTEXT  switch fibers by the system's functions even where there is code for the machine
// SHIM_FILL      fill shared memory; off under a sanitizer, which finds more without the section
#pragma once
#define DISPATCHARR_SHIM 1

typedef __SIZE_TYPE__ size_t;
typedef unsigned char shim_byte;
typedef unsigned long long shim_u64;

// ---- the language -----------------------------------------------------------------------------
#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__
#if defined(SHIM_FILL)
#define __shared__ static __attribute__((section("shim_shared")))
#else
#define __shared__ static
#endif
#ifndef NAN
#define NAN __builtin_nanf("")
#endif
#ifndef INFINITY
#define INFINITY __builtin_inff()
#endif

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
static dim3 gridDim, blockDim;
static uint3 blockIdx, threadIdx;
static const int warpSize = 32;

#define SHIM_VECTORS(T, name, size2, size4)                                                     \
    struct alignas(size2) name##2 { T x, y; };                                                  \
    struct alignas(size4) name##4 { T x, y, z, w; };                                            \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                           \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SHIM_VECTORS(float, float, 8, 16)
SHIM_VECTORS(double, double, 16, 16)
SHIM_VECTORS(int, int, 8, 16)
SHIM_VECTORS(unsigned, uint, 8, 16)
SHIM_VECTORS(long long, longlong, 16, 16)
SHIM_VECTORS(unsigned long long, ulonglong, 16, 16)

// ---- threads ----------------------------------------------------------------------------------
// Filled for the caller: where the first illegal barrier was, and whether the grid ran to its end.
struct ShimReport { long long line, block, thread, finished; };

namespace shim {

enum { ASCENDING, DESCENDING, RANDOM };
static shim_u64 seed;
static unsigned random(unsigned below) {
    seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17;
    return (unsigned)((seed >> 32) * below >> 32);
}

#ifndef SHIM_FIBERS
// Threads that never wait for each other: any order is a schedule, and a loop the quickest.
template <class Body>
static long run(unsigned grid, unsigned block, int mode, char*, ShimReport* report, Body body) {
    bool last_block_first = mode == RANDOM ? random(2) : mode == DESCENDING;
    bool last_thread_first = mode == RANDOM ? random(2) : mode == DESCENDING;
    for (unsigned b = 0; b < grid; b++) {
        blockIdx.x = last_block_first ? grid - 1 - b : b;
        for (unsigned t = 0; t < block; t++) {
            threadIdx.x = last_thread_first ? block - 1 - t : t;
            body();
        }
    }
    report->finished = 1;
    return 0;
}
#else
static const unsigned MOST_THREADS = 1024;
static const size_t SPACING = 64 * 1024;   // the arena has so much for each thread's stack
static const size_t STACK = SPACING - 4096;
enum State : shim_byte { READY, AT_WARP, AT_BLOCK, DONE };

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __sanitizer_start_switch_fiber(void** fake, const void* bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void* fake, const void** bottom, size_t* size);
static const void* home_bottom; static size_t home_size; static void* home_fake;
#define SHIM_LEAVING(fake, bottom, size) __sanitizer_start_switch_fiber(fake, bottom, size)
#define SHIM_ARRIVED(fake, bottom, size) __sanitizer_finish_switch_fiber(fake, bottom, size)
#else
#define SHIM_LEAVING(fake, bottom, size) (void)0
#define SHIM_ARRIVED(fake, bottom, size) (void)0
#endif

#if defined(__x86_64__) && defined(__ELF__) && !defined(SHIM_UCONTEXT)
typedef void* Context;                     // a stack pointer; what must survive lies on the stack
asm(".text\n.local shim_switch\n.type shim_switch,@function\nshim_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq (%rsi), %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\npopq %rcx\njmp *%rcx\n"
    ".size shim_switch, .-shim_switch\n");
extern "C" __attribute__((visibility("hidden"))) void shim_switch(Context* from, Context* to);
static void switch_to(Context* from, Context* to) { shim_switch(from, to); }
static void prepare(Context* fiber, char* stack, void (*first)()) {
    size_t top = ((size_t)stack + STACK) & ~(size_t)15;
    void** at = (void**)(top - 64);        // six registers, the way in, and room that aligns
    for (int i = 0; i < 6; i++) at[i] = nullptr;
    at[6] = (void*)first;
    at[7] = nullptr;
    *fiber = at;
}
#else
#include <ucontext.h>
typedef ucontext_t Context;
static void switch_to(Context* from, Context* to) { swapcontext(from, to); }
static void prepare(Context* fiber, char* stack, void (*first)()) {
    getcontext(fiber);
    fiber->uc_stack.ss_sp = stack;
    fiber->uc_stack.ss_size = STACK;
    fiber->uc_link = nullptr;
    makecontext(fiber, first, 0);
}
#endif

struct Fiber { Context context; char* stack; void* fake; int site, line; unsigned mask; State state; shim_byte turn; };
static Fiber fibers[MOST_THREADS];
// What lanes hand to each other. Full warps take turns with two slots, so one barrier serves an
// exchange; part of a warp uses the third, between two barriers.
static shim_byte slots[3][MOST_THREADS][8];
static Context home;
static unsigned current;
static ShimReport* report_;
static long illegal;
static void (*body_)(void*);
static void* closure_;

static void blame(int line, unsigned thread) {
    if (!illegal++) { report_->line = line; report_->block = blockIdx.x; report_->thread = thread; }
}

static void leave(bool for_good) {
    Fiber* me = &fibers[current];
    SHIM_LEAVING(for_good ? nullptr : &me->fake, home_bottom, home_size);
    switch_to(&me->context, &home);
    asm volatile("" ::: "memory");
    SHIM_ARRIVED(fibers[current].fake, nullptr, nullptr);
}

static void first() {
    SHIM_ARRIVED(nullptr, &home_bottom, &home_size);
    body_(closure_);
    fibers[current].state = DONE;
    leave(true);
}

static void resume(unsigned thread) {
    current = thread;
    threadIdx.x = thread;
    SHIM_LEAVING(&home_fake, fibers[thread].stack, STACK);
    switch_to(&home, &fibers[thread].context);
    asm volatile("" ::: "memory");
    SHIM_ARRIVED(home_fake, nullptr, nullptr);
}

static void wait(State state, unsigned mask, int site, int line) {
    Fiber* me = &fibers[current];
    me->state = state; me->mask = mask; me->site = site; me->line = line;
    leave(false);
}

static unsigned lanes_of(unsigned warp) {
    unsigned there = blockDim.x - warp * 32;
    return there >= 32 ? ~0u : (1u << there) - 1;
}

// Lets lanes go on whose whole group waits at one place; `true` if any did.
static bool release_warp(unsigned warp) {
    Fiber* lanes = fibers + warp * 32;
    unsigned there = lanes_of(warp), waiting = 0;
    bool any = false;
    for (unsigned i = 0; i < 32; i++)
        if (there >> i & 1 && lanes[i].state == AT_WARP) waiting |= 1u << i;
    while (waiting) {
        unsigned lead = __builtin_ctz(waiting), group = lanes[lead].mask & there, together = 0;
        for (unsigned i = lead; i < 32; i++)
            if (waiting >> i & 1 && lanes[i].site == lanes[lead].site && (lanes[i].mask & there) == group)
                together |= 1u << i;
        waiting &= ~together;
        if (together != group) continue;
        for (unsigned i = 0; i < 32; i++) if (group >> i & 1) lanes[i].state = READY;
        any = true;
    }
    return any;
}

// The whole block, all at one place: nobody has returned, nobody waits elsewhere.
static bool release_block() {
    for (unsigned i = 0; i < blockDim.x; i++)
        if (fibers[i].state != AT_BLOCK || fibers[i].site != fibers[0].site) {
            for (i = 0; fibers[i].state == DONE; i++) {}
            unsigned odd = i;              // a thread that waits, for one that will never come
            for (; i < blockDim.x; i++)
                if (fibers[i].state != DONE && fibers[i].site != fibers[odd].site) { odd = i; break; }
            blame(fibers[odd].line, odd);
            return false;
        }
    for (unsigned i = 0; i < blockDim.x; i++) fibers[i].state = READY;
    return true;
}

static void shuffled(unsigned* all, unsigned n, int mode) {
    for (unsigned i = 0; i < n; i++) all[i] = mode == DESCENDING ? n - 1 - i : i;
    for (unsigned i = n; mode == RANDOM && i > 1; i--) {
        unsigned j = random(i), was = all[i - 1];
        all[i - 1] = all[j];
        all[j] = was;
    }
}

// Runs a warp until its lanes are done, or wait for other warps.
static void run_warp(unsigned warp, int mode) {
    unsigned start = warp * 32, lanes = blockDim.x - start < 32 ? blockDim.x - start : 32;
    unsigned order[32];
    shuffled(order, lanes, mode);
    do {
        for (unsigned i = 0; i < lanes; i++)
            if (fibers[start + order[i]].state == READY) resume(start + order[i]);
    } while (!illegal && release_warp(warp));
}

static void run_block(int mode) {
    unsigned warps = (blockDim.x + 31) / 32, order[MOST_THREADS / 32];
    for (;;) {
        shuffled(order, warps, mode);
        for (unsigned i = 0; i < warps && !illegal; i++) run_warp(order[i], mode);
        if (illegal) return;
        bool all_done = true;
        for (unsigned i = 0; i < blockDim.x && all_done; i++) all_done = fibers[i].state == DONE;
        if (all_done || !release_block()) return;
    }
}

#if defined(SHIM_FILL)
extern "C" __attribute__((weak, visibility("hidden"))) shim_byte __start_shim_shared[], __stop_shim_shared[];
static void fill_shared() {
    if (__start_shim_shared)
        __builtin_memset(__start_shim_shared, 0xFF, __stop_shim_shared - __start_shim_shared);
}
#else
static void fill_shared() {}
#endif

template <class Body>
static long run(unsigned grid, unsigned block, int mode, char* arena, ShimReport* report, Body body) {
    report_ = report; illegal = 0;
    body_ = [](void* closure) { (*(Body*)closure)(); };
    closure_ = &body;
    for (unsigned b = 0; b < grid && !illegal; b++) {
        blockIdx.x = mode == DESCENDING ? grid - 1 - b : b;
        fill_shared();
        for (unsigned t = 0; t < block; t++) {
            Fiber* fiber = &fibers[t];
            // Their tops lie at different places of a page, so they do not share few cache lines.
            fiber->stack = arena + t * SPACING + t % 32 * 128;
            fiber->state = READY; fiber->turn = 0;
            prepare(&fiber->context, fiber->stack, first);
        }
        run_block(mode);
    }
    report->finished = 1;
    return illegal;
}

// Hands a value to the other lanes; `true` if `source` hands one over too.
template <class T> static T exchange(T value, unsigned mask, unsigned source, int site, int line) {
    static_assert(sizeof(T) <= 8, "lanes exchange at most 8 bytes");
    unsigned me = current, warp = me / 32, there = lanes_of(warp);
    if (!(mask >> (me & 31) & 1)) blame(line, me);
    bool full = (mask & there) == there;
    unsigned slot = full ? (fibers[me].turn ^= 1) : 2;
    __builtin_memcpy(slots[slot][me], &value, sizeof(T));
    wait(AT_WARP, mask, site, line);
    T taken;
    if (mask & there & 1u << (source & 31)) __builtin_memcpy(&taken, slots[slot][warp * 32 + source], sizeof(T));
    else __builtin_memset(&taken, 0xFF, sizeof(T));      // nobody gave anything: rubbish
    if (!full) wait(AT_WARP, mask, ~site, line);
    return taken;
}

enum Way { INDEX, UP, DOWN, XOR };
template <Way way, class T>
static T shuffle(unsigned mask, T value, int by, int site, int line, int width = 32) {
    int lane = current & 31, start = lane & ~(width - 1), source = lane;
    if (way == INDEX) source = start + (by & (width - 1));
    if (way == UP && lane - by >= start) source = lane - by;
    if (way == DOWN && lane + by < start + width) source = lane + by;
    if (way == XOR && (lane ^ by) < start + width) source = lane ^ by;
    return exchange(value, mask, source, site, line);
}

static unsigned ballot(unsigned mask, bool yes, int site, int line) {
    unsigned me = current, warp = me / 32, there = lanes_of(warp), votes = 0;
    if (!(mask >> (me & 31) & 1)) blame(line, me);
    slots[2][me][0] = yes;
    wait(AT_WARP, mask, site, line);
    for (unsigned i = 0; i < 32; i++)
        if (mask & there & 1u << i && slots[2][warp * 32 + i][0]) votes |= 1u << i;
    wait(AT_WARP, mask, ~site, line);
    return votes;
}

static int count(bool yes, int site, int line) {
    slots[2][current][0] = yes;
    wait(AT_BLOCK, 0, site, line);
    int votes = 0;
    for (unsigned i = 0; i < blockDim.x; i++) votes += slots[2][i][0];
    wait(AT_BLOCK, 0, ~site, line);
    return votes;
}

// All lanes take their neighbours' values in one order, so each has the same result.
template <class T, class F> static T combine(unsigned mask, T value, F f, int site, int line) {
    unsigned there = lanes_of(current / 32);
    T all = value;
    bool begun = false;
    for (unsigned i = 0; i < 32; i++) {
        if (!(mask & there & 1u << i)) continue;
        T other = exchange(value, mask, i, site + (int)i * 0x10000, line);
        all = begun ? f(all, other) : other;
        begun = true;
    }
    return all;
}
#define __syncthreads() shim::wait(shim::AT_BLOCK, 0, __COUNTER__, __LINE__)
#define __syncthreads_count(v) shim::count(v, __COUNTER__, __LINE__)
#define __syncthreads_or(v) (shim::count(v, __COUNTER__, __LINE__) != 0)
#define __syncthreads_and(v) (shim::count(v, __COUNTER__, __LINE__) == (int)blockDim.x)
#define SHIM_FIRST(a, ...) a
#define __syncwarp(...) shim::wait(shim::AT_WARP, SHIM_FIRST(__VA_ARGS__ __VA_OPT__(,) ~0u), __COUNTER__, __LINE__)
#define SHIM_SHUFFLE(way, m, v, d, ...) shim::shuffle<shim::way>(m, v, d, __COUNTER__, __LINE__ __VA_OPT__(,) __VA_ARGS__)
#define __shfl_sync(...) SHIM_SHUFFLE(INDEX, __VA_ARGS__)
#define __shfl_up_sync(...) SHIM_SHUFFLE(UP, __VA_ARGS__)
#define __shfl_down_sync(...) SHIM_SHUFFLE(DOWN, __VA_ARGS__)
#define __shfl_xor_sync(...) SHIM_SHUFFLE(XOR, __VA_ARGS__)
#define __ballot_sync(m, v) shim::ballot(m, v, __COUNTER__, __LINE__)
#define __any_sync(m, v) (__ballot_sync(m, v) != 0)
#define __all_sync(m, v) (__ballot_sync(m, !(v)) == 0)
#define SHIM_COMBINE(m, v, what) shim::combine(m, v, [](auto a, auto b) { return what; }, __COUNTER__, __LINE__)
#define __reduce_add_sync(m, v) SHIM_COMBINE(m, v, a + b)
#define __reduce_min_sync(m, v) SHIM_COMBINE(m, v, a < b ? a : b)
#define __reduce_max_sync(m, v) SHIM_COMBINE(m, v, a > b ? a : b)
#define __reduce_and_sync(m, v) SHIM_COMBINE(m, v, a & b)
#define __reduce_or_sync(m, v) SHIM_COMBINE(m, v, a | b)
#define __reduce_xor_sync(m, v) SHIM_COMBINE(m, v, a ^ b)
static inline unsigned __activemask() { return lanes_of(current / 32); }
#endif
}  // namespace shim
#ifdef SHIM_FIBERS
using shim::__activemask;
#endif
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}

// What the device calls: one grid of the kernel, whose only parameter are `words`.
#define SHIM_ENTRY(kernel)                                                                        \
    extern "C" __attribute__((visibility("default"))) const size_t shim_size = sizeof(Words);     \
    extern "C" __attribute__((visibility("default"))) long shim_run(                              \
        unsigned grid, unsigned block, const long long* words, int mode, shim_u64 seed,           \
        char* arena, ShimReport* report) {                                                        \
        const Words& p = *(const Words*)words;                                                    \
        gridDim = dim3(grid); blockDim = dim3(block); blockIdx = {0, 0, 0}; threadIdx = {0, 0, 0};\
        shim::seed = seed | 1;                                                                    \
        return shim::run(grid, block, mode, arena, report, [&p] { kernel(p); });                  \
    }

// ---- memory -----------------------------------------------------------------------------------
static inline void* __cvta_global_to_generic(size_t address) { return (void*)address; }
static inline size_t __cvta_generic_to_global(const void* address) { return (size_t)address; }
#define SHIM_LOAD(name) template <class T> static inline T name(const T* p) { return *p; }
SHIM_LOAD(__ldg) SHIM_LOAD(__ldcs) SHIM_LOAD(__ldca) SHIM_LOAD(__ldcg) SHIM_LOAD(__ldlu) SHIM_LOAD(__ldcv)
#define SHIM_STORE(name) template <class T> static inline void name(T* p, T v) { *p = v; }
SHIM_STORE(__stcs) SHIM_STORE(__stcg) SHIM_STORE(__stwb) SHIM_STORE(__stwt)
#define SHIM_ATOMIC(name, what)                                                                   \
    template <class T, class V> static inline T name(T* p, V value) {                             \
        T was = *p, v = (T)value; *p = (T)(what); return was; }
SHIM_ATOMIC(atomicAdd, was + v) SHIM_ATOMIC(atomicSub, was - v) SHIM_ATOMIC(atomicExch, v)
SHIM_ATOMIC(atomicMin, v < was ? v : was) SHIM_ATOMIC(atomicMax, v > was ? v : was)
SHIM_ATOMIC(atomicOr, was | v) SHIM_ATOMIC(atomicAnd, was & v) SHIM_ATOMIC(atomicXor, was ^ v)
SHIM_ATOMIC(atomicInc, was >= v ? 0 : was + 1)
template <class T> static inline T atomicCAS(T* p, T compare, T v) { T was = *p; if (was == compare) *p = v; return was; }

// ---- bits and whole numbers -------------------------------------------------------------------
template <class To, class From> static inline To shim_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
static inline int __float_as_int(float x) { return shim_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return shim_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return shim_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return shim_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return shim_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return shim_bits<double>(x); }
static inline int __double2hiint(double x) { return (int)(shim_bits<shim_u64>(x) >> 32); }
static inline int __double2loint(double x) { return (int)shim_bits<shim_u64>(x); }
static inline double __hiloint2double(int high, int low) {
    return shim_bits<double>((shim_u64)(unsigned)high << 32 | (unsigned)low);
}
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((shim_u64)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(shim_u64 x) { return __builtin_popcountll(x); }
static inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int i = 0; i < 32; i++) reversed |= (x >> i & 1) << (31 - i);
    return reversed;
}
static inline shim_u64 __brevll(shim_u64 x) {
    return (shim_u64)__brev((unsigned)x) << 32 | __brev((unsigned)(x >> 32));
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((shim_u64)a * b >> 32); }
static inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static inline shim_u64 __umul64hi(shim_u64 a, shim_u64 b) { return (shim_u64)((unsigned __int128)a * b >> 64); }
static inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)a * b >> 64); }
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return (unsigned)(((shim_u64)high << 32 | low) << (by & 31) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return (unsigned)(((shim_u64)high << 32 | low) >> (by & 31));
}

// ---- numbers ----------------------------------------------------------------------------------
#define SHIM_EXTREMES(T) \
    static inline T min(T a, T b) { return b < a ? b : a; } \
    static inline T max(T a, T b) { return a < b ? b : a; }
SHIM_EXTREMES(int) SHIM_EXTREMES(unsigned) SHIM_EXTREMES(long) SHIM_EXTREMES(unsigned long)
SHIM_EXTREMES(long long) SHIM_EXTREMES(unsigned long long)

// As in CUDA: `sin` of a float is `sinf`, which has a name of its own too.
#define SHIM_1(name) extern "C" double name(double); extern "C" float name##f(float); \
    static inline float name(float x) { return name##f(x); }
#define SHIM_2(name) extern "C" double name(double, double); extern "C" float name##f(float, float); \
    static inline float name(float x, float y) { return name##f(x, y); }
#define SHIM_3(name) extern "C" double name(double, double, double); \
    extern "C" float name##f(float, float, float); \
    static inline float name(float x, float y, float z) { return name##f(x, y, z); }
SHIM_1(acos) SHIM_1(acosh) SHIM_1(asin) SHIM_1(asinh) SHIM_1(atan) SHIM_1(atanh) SHIM_1(cbrt)
SHIM_1(ceil) SHIM_1(cos) SHIM_1(cosh) SHIM_1(erf) SHIM_1(erfc) SHIM_1(exp) SHIM_1(exp2)
SHIM_1(expm1) SHIM_1(fabs) SHIM_1(floor) SHIM_1(lgamma) SHIM_1(log) SHIM_1(log10) SHIM_1(log1p)
SHIM_1(log2) SHIM_1(logb) SHIM_1(nearbyint) SHIM_1(rint) SHIM_1(round) SHIM_1(sin) SHIM_1(sinh)
SHIM_1(sqrt) SHIM_1(tan) SHIM_1(tanh) SHIM_1(tgamma) SHIM_1(trunc)
SHIM_2(atan2) SHIM_2(copysign) SHIM_2(fdim) SHIM_2(fmax) SHIM_2(fmin) SHIM_2(fmod) SHIM_2(hypot)
SHIM_2(nextafter) SHIM_2(pow) SHIM_2(remainder)
SHIM_3(fma)
#define SHIM_TO(T, name) extern "C" T name(double); extern "C" T name##f(float); \
    static inline T name(float x) { return name##f(x); }
SHIM_TO(int, ilogb) SHIM_TO(long, lrint) SHIM_TO(long, lround)
SHIM_TO(long long, llrint) SHIM_TO(long long, llround)
extern "C" double ldexp(double, int); extern "C" float ldexpf(float, int);
extern "C" double scalbn(double, int); extern "C" float scalbnf(float, int);
extern "C" double frexp(double, int*); extern "C" float frexpf(float, int*);
extern "C" double modf(double, double*); extern "C" float modff(float, float*);
static inline float ldexp(float x, int n) { return ldexpf(x, n); }
static inline float scalbn(float x, int n) { return scalbnf(x, n); }
static inline float frexp(float x, int* n) { return frexpf(x, n); }
static inline float modf(float x, float* whole) { return modff(x, whole); }

static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline int abs(int x) { return x < 0 ? -x : x; }
static inline long abs(long x) { return x < 0 ? -x : x; }
static inline long long abs(long long x) { return x < 0 ? -x : x; }
static inline long long llabs(long long x) { return x < 0 ? -x : x; }
static inline float abs(float x) { return fabsf(x); }
static inline double abs(double x) { return fabs(x); }
#define SHIM_CLASS(name) \
    static inline bool name(float x) { return __builtin_##name(x); } \
    static inline bool name(double x) { return __builtin_##name(x); }
SHIM_CLASS(isnan) SHIM_CLASS(isinf) SHIM_CLASS(isfinite) SHIM_CLASS(signbit)

// Those that C lacks.
#define SHIM_BOTH(name, parameters, result) \
    static inline double name parameters(double) { typedef double T; return result; } \
    static inline float name parameters(float) { typedef float T; return result; } \
    static inline float name##f parameters(float) { typedef float T; return result; }
#define SHIM_X(T) (T x)
#define SHIM_XY(T) (T x, T y)
SHIM_BOTH(rsqrt, SHIM_X, 1 / sqrt(x))
SHIM_BOTH(rcbrt, SHIM_X, 1 / cbrt(x))
SHIM_BOTH(rhypot, SHIM_XY, 1 / hypot(x, y))
SHIM_BOTH(exp10, SHIM_X, (T)pow(10.0, (double)x))
SHIM_BOTH(erfcx, SHIM_X, (T)(exp((double)x * x) * erfc((double)x)))
static inline double shim_sinpi(double x) {
    double turn = fmod(x, 2.0), pi = 3.141592653589793;
    if (fabs(turn) == 1) return copysign(0.0, x);
    if (turn > 0.5 && turn < 1.5) return sin((1 - turn) * pi);
    if (turn < -0.5 && turn > -1.5) return sin((-1 - turn) * pi);
    if (turn >= 1.5) return sin((turn - 2) * pi);
    if (turn <= -1.5) return sin((turn + 2) * pi);
    return sin(turn * pi);
}
static inline double shim_cospi(double x) {
    double turn = fabs(fmod(x, 2.0));
    return turn == 0.5 || turn == 1.5 ? 0.0 : shim_sinpi(turn < 1 ? 0.5 - turn : turn - 1.5);
}
SHIM_BOTH(sinpi, SHIM_X, (T)shim_sinpi(x))
SHIM_BOTH(cospi, SHIM_X, (T)shim_cospi(x))
static inline void sincos(double x, double* s, double* c) { *s = sin(x); *c = cos(x); }
static inline void sincosf(float x, float* s, float* c) { *s = sinf(x); *c = cosf(x); }
static inline void sincos(float x, float* s, float* c) { sincosf(x, s, c); }
static inline void sincospi(double x, double* s, double* c) { *s = sinpi(x); *c = cospi(x); }
static inline void sincospif(float x, float* s, float* c) { *s = sinpif(x); *c = cospif(x); }

// Rounded to nearest, each by itself: the compiler is told not to contract.
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline double __drcp_rn(double a) { return 1 / a; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frcp_rn(float a) { return 1 / a; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }

// Conversions that saturate, NaN giving 0; the limits are the powers of two next to the type's.
#define SHIM_CONVERT(name, From, To, way, low, high, most) \
    static inline To name(From x) { \
        if (x != x) return 0; \
        x = way(x); \
        return x < (From)low ? (To)(low) : x >= (From)high ? (To)(most) : (To)x; }
#define SHIM_CONVERTS(from, From, suffix, way) \
    SHIM_CONVERT(__##from##2int_##suffix, From, int, way, -2147483648.0, 2147483648.0, 0x7fffffff) \
    SHIM_CONVERT(__##from##2uint_##suffix, From, unsigned, way, 0, 4294967296.0, 0xffffffffu) \
    SHIM_CONVERT(__##from##2ll_##suffix, From, long long, way, -9223372036854775808.0, 9223372036854775808.0, 0x7fffffffffffffffll) \
    SHIM_CONVERT(__##from##2ull_##suffix, From, unsigned long long, way, 0, 18446744073709551616.0, ~0ull)
SHIM_CONVERTS(double, double, rz, trunc) SHIM_CONVERTS(double, double, rn, rint)
SHIM_CONVERTS(double, double, rd, floor) SHIM_CONVERTS(double, double, ru, ceil)
SHIM_CONVERTS(float, float, rz, trunc) SHIM_CONVERTS(float, float, rn, rint)
SHIM_CONVERTS(float, float, rd, floor) SHIM_CONVERTS(float, float, ru, ceil)
static inline float __double2float_rn(double x) { return (float)x; }
static inline double __ll2double_rn(long long x) { return (double)x; }
static inline double __ull2double_rn(unsigned long long x) { return (double)x; }
static inline double __int2double_rn(int x) { return x; }
static inline double __uint2double_rn(unsigned x) { return x; }
static inline float __ll2float_rn(long long x) { return (float)x; }
static inline float __ull2float_rn(unsigned long long x) { return (float)x; }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }

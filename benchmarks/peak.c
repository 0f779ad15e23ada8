/* What this CPU can do at most: multiply-adds per second in registers, and bytes per second from each
 * level of memory. Compiled once for each instruction set, with its flags; called by peak.py.
 *
 * All threads start together. Each takes its own CPU time, and the slowest one counts: what other programs
 * take away from a thread is no limit of the CPU. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef float floats __attribute__((vector_size(BYTES)));
typedef double doubles __attribute__((vector_size(BYTES)));

enum { FLOAT32, FLOAT64, BF16_DOT, BF16_TILE, UPDATE };

typedef struct {
    int kind;
    int64_t iterations, bytes;
    atomic_int *waiting;
    double seconds;
} Job;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Twelve independent chains: enough to fill two units of latency 4 (or 5), and they fit 16 registers.
 * The values converge to 2, so there is nothing denormal or infinite about them. The compiler must not
 * know it: a chain that starts at 2 would be no work. */
#define CHAINS(OP) OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11)
#define START(i) x##i = one + (i);
#define MULTIPLY_ADD(i) x##i = x##i * half + one;
#define KEEP(i) __asm__ volatile("" : : "m"(x##i));
#define FMA_LOOP(name, type)                                                                  \
    static void name(int64_t iterations) {                                                    \
        type one = (type){0} + 1;                                                             \
        __asm__("" : "+m"(one));                                                              \
        type half = one / 2;                                                                  \
        type x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11;                                 \
        CHAINS(START)                                                                         \
        for (int64_t i = 0; i < iterations; i++) {                                            \
            CHAINS(MULTIPLY_ADD)                                                              \
        }                                                                                     \
        CHAINS(KEEP)                                                                          \
    }
FMA_LOOP(fma_float32, floats)
FMA_LOOP(fma_float64, doubles)

#if defined(__AVX512BF16__)
static void bf16_dot(int64_t iterations) {
    __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80); /* 1.0 */
    __m512 x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11;
    __m512 one = _mm512_set1_ps(1);
    CHAINS(START)
    for (int64_t i = 0; i < iterations; i++) {
#define DOT(i) x##i = _mm512_dpbf16_ps(x##i, a, a);
        CHAINS(DOT)
    }
    CHAINS(KEEP)
}
#endif

#if defined(__AMX_BF16__) && defined(__linux__)
static int tiles_allowed(void) {
    /* ask the kernel for the tile registers: ARCH_REQ_XCOMP_PERM, XTILEDATA */
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}
static void bf16_tile(int64_t iterations) {
    struct __attribute__((aligned(64))) {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    static const uint16_t ones[16 * 32] __attribute__((aligned(64))) = {0x3f80};
    for (int i = 0; i < 8; i++) config.row_bytes[i] = 64, config.rows[i] = 16;
    _tile_loadconfig(&config);
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    _tile_loadd(4, ones, 64); _tile_loadd(5, ones, 64);
    _tile_loadd(6, ones, 64); _tile_loadd(7, ones, 64);
    for (int64_t i = 0; i < iterations; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
}
#endif

/* x = x / 2 + 1 in place: reads and writes every byte once. */
static void update(float *memory, int64_t bytes, int64_t iterations) {
    floats one = (floats){0} + 1, half = one / 2, *x = (floats *)memory;
    int64_t n = bytes / BYTES / 4 * 4;
    for (int64_t r = 0; r < iterations; r++) {
        for (int64_t i = 0; i < n; i += 4) {
            x[i] = x[i] * half + one;
            x[i + 1] = x[i + 1] * half + one;
            x[i + 2] = x[i + 2] * half + one;
            x[i + 3] = x[i + 3] * half + one;
        }
        __asm__ volatile("" : : "r"(memory) : "memory");
    }
}

static void *work(void *argument) {
    Job *job = argument;
    float *memory = NULL;
    if (job->kind == UPDATE) {
        memory = aligned_alloc(64, (job->bytes + 63) / 64 * 64);
        if (memory == NULL) { job->seconds = -1; atomic_fetch_sub(job->waiting, 1); return NULL; }
        for (int64_t i = 0; i < job->bytes / 4; i++) memory[i] = 1;
        update(memory, job->bytes, 1);
    }
    atomic_fetch_sub(job->waiting, 1);
    while (atomic_load(job->waiting) > 0) {}
    double start = now();
    switch (job->kind) {
    case FLOAT32: fma_float32(job->iterations); break;
    case FLOAT64: fma_float64(job->iterations); break;
#if defined(__AVX512BF16__)
    case BF16_DOT: bf16_dot(job->iterations); break;
#endif
#if defined(__AMX_BF16__) && defined(__linux__)
    case BF16_TILE: bf16_tile(job->iterations); break;
#endif
    case UPDATE: update(memory, job->bytes, job->iterations); break;
    }
    job->seconds = now() - start;
    free(memory);
    return NULL;
}

/* Floating-point operations of an iteration in one thread; 0 if this module cannot do the kind. */
int64_t operations(int kind) {
    switch (kind) {
    case FLOAT32: return 12 * 2 * (BYTES / 4);
    case FLOAT64: return 12 * 2 * (BYTES / 8);
#if defined(__AVX512BF16__)
    case BF16_DOT: return 12 * 2 * 32;
#endif
#if defined(__AMX_BF16__) && defined(__linux__)
    case BF16_TILE: return tiles_allowed() ? 4 * 2 * 16 * 16 * 32 : 0;
#endif
    }
    return 0;
}

/* CPU seconds of the slowest of `threads` threads, for `iterations` each; < 0 if they cannot be had. */
double run(int kind, int threads, int64_t iterations, int64_t bytes) {
    pthread_t id[1024];
    Job job[1024];
    atomic_int waiting = threads;
    if (threads < 1 || threads > 1024) return -1;
    for (int t = 0; t < threads; t++) {
        job[t] = (Job){kind, iterations, bytes, &waiting, 0};
        if (pthread_create(&id[t], NULL, work, &job[t])) abort(); /* others wait for it */
    }
    double slowest = 0;
    int failed = 0;
    for (int t = 0; t < threads; t++) {
        pthread_join(id[t], NULL);
        if (job[t].seconds < 0) failed = 1;
        if (job[t].seconds > slowest) slowest = job[t].seconds;
    }
    return failed ? -1 : slowest;
}

/* half_panel on AMX: eight tile registers of 16 rows × 64 bytes.

   Tiles 0 … 3 hold a 32 × 32 block of C, 4 and 5 its rows of A (16 rows × 32 values of k, as they lie in a
   panel), 6 and 7 its columns of W (16 pairs of k × 16 columns). Four loads feed four products, so the
   loads hide behind them where W comes from the L1 cache: K is cut into blocks of K_BLOCK for that, and
   all rows go through a block before the next. A must have room for a multiple of 16 rows: those past the
   last are computed with what lies there, and left out of C.

   With -DFASTBP_EMULATE_TILES the tile instructions are C functions, and vectors are of 64 bytes on any
   CPU (simd.h), to test all this; they keep subnormal numbers, which the hardware does not. */
#ifndef FASTBP_AMX_H
#define FASTBP_AMX_H

#define K_BLOCK 512

/* What the compiler is not told: that the tile instructions read memory. */
#define MEMORY_IS_READ __asm__ volatile("" ::: "memory")

#if defined(FASTBP_EMULATE_TILES)
#include <stdlib.h>
typedef struct {
    uint32_t row[16][16];
} EmulatedTile;
static _Thread_local EmulatedTile emulated[8];
static _Thread_local int emulated_on;
static void emulate_load(int t, const void *p, int64_t stride) {
    if (!emulated_on) abort();
    for (int i = 0; i < 16; i++) memcpy(emulated[t].row[i], (const char *)p + i * stride, 64);
}
static void emulate_store(int t, void *p, int64_t stride) {
    for (int i = 0; i < 16; i++) memcpy((char *)p + i * stride, emulated[t].row[i], 64);
}
static float emulate_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static void emulate_dot(int c, int a, int b) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            float even = 0, odd = 0, sum = emulate_float(emulated[c].row[i][j]);
            for (int k = 0; k < 16; k++) {
                uint32_t x = emulated[a].row[i][k], y = emulated[b].row[k][j];
                even += emulate_float(x << 16) * emulate_float(y << 16);
                odd += emulate_float(x & 0xFFFF0000) * emulate_float(y & 0xFFFF0000);
            }
            sum += even + odd;
            memcpy(&emulated[c].row[i][j], &sum, sizeof sum);
        }
}
#define TILE_LOAD(t, p, stride) emulate_load(t, p, stride)
#define TILE_STORE(t, p, stride) emulate_store(t, p, stride)
#define TILE_ZERO(t) memset(&emulated[t], 0, sizeof(EmulatedTile))
#define TILE_DOT(c, a, b) emulate_dot(c, a, b)
static int tiles_granted(void) { return 1; }
static inline void tiles_on(void) { emulated_on = 1; }
static inline void tiles_off(void) { emulated_on = 0; }
#else
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define TILE_LOAD(t, p, stride) _tile_loadd(t, p, stride)
#define TILE_STORE(t, p, stride) _tile_stored(t, p, stride)
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_DOT(c, a, b) _tile_dpbf16ps(c, a, b)

/* Ask Linux for the tiles' registers, which it gives only to a process that has asked. */
static int tiles_granted(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
    const long request_permission = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return 0;
#endif
}

/* A thread configures its tiles when a call's work starts on it, and leaves none configured. */
static inline void tiles_on(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } __attribute__((aligned(64))) configuration = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        configuration.row_bytes[t] = 64;
        configuration.rows[t] = 16;
    }
    MEMORY_IS_READ;
    _tile_loadconfig(&configuration);
}
static inline void tiles_off(void) { _tile_release(); }
#endif

/* One block of C: `low` whether it has rows 16 … 31 too, `wide` whether columns 16 … 31. */
INLINE void tile_block(const int low, const int wide, int64_t K, const operand *a, int64_t a_panel,
                       const operand *w, const real *start, int64_t start_row, real *c) {
    const int64_t row = 16 * PANEL, bytes = PANEL * sizeof(real);
    if (start) {
        TILE_LOAD(0, start, bytes);
        if (wide) TILE_LOAD(1, start + 16, bytes);
        if (low) TILE_LOAD(2, start + start_row, bytes);
        if (low && wide) TILE_LOAD(3, start + start_row + 16, bytes);
    } else {
        TILE_ZERO(0);
        if (wide) TILE_ZERO(1);
        if (low) TILE_ZERO(2);
        if (low && wide) TILE_ZERO(3);
    }
    for (int64_t k = 0; k < K; k += PANEL, a += a_panel, w += PANEL * PANEL) {
        TILE_LOAD(4, a, PANEL * sizeof(operand));
        TILE_LOAD(6, w, 2 * PANEL * sizeof(operand));
        TILE_DOT(0, 4, 6);
        if (wide) {
            TILE_LOAD(7, w + PANEL, 2 * PANEL * sizeof(operand));
            TILE_DOT(1, 4, 7);
        }
        if (low) {
            TILE_LOAD(5, a + row, PANEL * sizeof(operand));
            TILE_DOT(2, 5, 6);
            if (wide) TILE_DOT(3, 5, 7);
        }
    }
    TILE_STORE(0, c, bytes);
    if (wide) TILE_STORE(1, c + 16, bytes);
    if (low) TILE_STORE(2, c + row, bytes);
    if (low && wide) TILE_STORE(3, c + row + 16, bytes);
}

static void tile_case(int low, int wide, int64_t K, const operand *a, int64_t a_panel, const operand *w,
                      const real *start, int64_t start_row, real *c) {
    if (low && wide) tile_block(1, 1, K, a, a_panel, w, start, start_row, c);
    else if (low) tile_block(1, 0, K, a, a_panel, w, start, start_row, c);
    else if (wide) tile_block(0, 1, K, a, a_panel, w, start, start_row, c);
    else tile_block(0, 0, K, a, a_panel, w, start, start_row, c);
}

static __attribute__((noinline)) void half_panel(int64_t rows, int vectors, int64_t K, const operand *a,
                                                 int64_t a_panel, const operand *w, const real *bias,
                                                 real *c, int add) {
    real biases[16 * PANEL] __attribute__((aligned(64))), rest[32 * PANEL] __attribute__((aligned(64)));
    const int64_t blocks = K > K_BLOCK ? (K + K_BLOCK - 1) / K_BLOCK : 1, chunks = K / PANEL;
    if (bias && !add)
        for (int i = 0; i < 16; i++) memcpy(biases + i * PANEL, bias, PANEL * sizeof(real));
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t first = chunks * b / blocks, k = PANEL * (chunks * (b + 1) / blocks - first);
        const operand *a_block = a + first * a_panel, *w_block = w + first * PANEL * PANEL;
        const int again = add || b > 0;
        for (int64_t r = 0; r < rows; r += 32) {
            const int64_t bytes = (rows - r < 32 ? rows - r : 32) * PANEL * (int64_t)sizeof(real);
            const int low = rows - r > 16, ragged = rows - r < 32 && rows - r != 16;
            real *c_block = ragged ? rest : c + r * PANEL;
            const real *start = again ? c_block : bias ? biases : NULL;
            if (ragged && again) memcpy(rest, c + r * PANEL, bytes);
            MEMORY_IS_READ;
            tile_case(low, vectors == 2, k, a_block + r * PANEL, a_panel, w_block, start,
                      again ? 16 * PANEL : 0, c_block);
            if (ragged) memcpy(c + r * PANEL, rest, bytes);
        }
    }
}

#endif

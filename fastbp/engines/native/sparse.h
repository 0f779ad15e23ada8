/* Sparse rows (CSR) of X: reading them, their entries in the order of columns, and sums over them.

       z = Σ x W[k]      over the entries (k, x) of a row
       g = Σ x δ_row     over the entries (row, x) of a column

   W[k] is what input k has for each unit, side by side; z and δ are rows of panels (layout.pxi). Another thread
   may change X while it is read: each number is read once, and taken to where it points to something. */
#ifndef FASTBP_SPARSE_H
#define FASTBP_SPARSE_H

#include "simd.h"

#define SUM_VECTORS 14 /* at once: with a vector of W and a value they fill 16 registers */
#define STAGED 128     /* entries of a row that are looked at before they are summed */
#define FETCHED 8      /* entries from one that is summed to the one whose W is fetched meanwhile */
#define FEW_ENTRIES 24 /* sorted by insertion */

typedef struct {
    const real *values;
    const void *columns, *starts;
    int wide_columns, wide_starts; /* 64 bits, else 32 */
    int64_t entries, n_in;
} Rows;

typedef struct {
    uint32_t column, row; /* row of the minibatch */
    real x;
} Entry;

/* Where row i begins. */
INLINE int64_t row_start(const Rows *X, int64_t i) {
    int64_t at = X->wide_starts ? __atomic_load_n((const int64_t *)X->starts + i, __ATOMIC_RELAXED)
                                : __atomic_load_n((const int32_t *)X->starts + i, __ATOMIC_RELAXED);
    return at < 0 ? 0 : at > X->entries ? X->entries : at;
}

INLINE uint32_t column_at(const Rows *X, int64_t e) {
    uint64_t k = X->wide_columns ? (uint64_t)__atomic_load_n((const int64_t *)X->columns + e, __ATOMIC_RELAXED)
                                 : (uint64_t)(int64_t)__atomic_load_n((const int32_t *)X->columns + e, __ATOMIC_RELAXED);
    return (uint32_t)(k < (uint64_t)X->n_in ? k : (uint64_t)X->n_in - 1);
}

/* Constant vectors turn `sum` into registers; hence an instance for each number, below. */
INLINE void sum_row(const int vectors, int64_t n, const uint32_t *columns, const real *x, const real *w,
                    int64_t width, real *z, int64_t panel) {
    vec sum[SUM_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) sum[v] = load(z + v / 2 * panel + v % 2 * LANES);
    for (int64_t e = 0; e < n; e++) {
        if (e + FETCHED < n) prefetch(w + columns[e + FETCHED] * width, vectors * LANES);
        const real *from = w + columns[e] * width;
        vec s = splat(x[e]);
        UNROLL for (int v = 0; v < vectors; v++) sum[v] += s * load(from + v * LANES);
    }
    UNROLL for (int v = 0; v < vectors; v++) store(z + v / 2 * panel + v % 2 * LANES, sum[v]);
}

/* With add g goes on from what it is; with w not NULL, w −= η g there, and g stays as it is. */
INLINE void sum_column(const int vectors, int64_t n, const Entry *entry, const real *delta, int64_t panel, int add,
                       real *g, real *w, real eta) {
    vec sum[SUM_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) sum[v] = add ? load(g + v * LANES) : splat(0);
    for (int64_t e = 0; e < n; e++) {
        const real *from = delta + (int64_t)entry[e].row * PANEL;
        vec s = splat(entry[e].x);
        UNROLL for (int v = 0; v < vectors; v++) sum[v] += s * load(from + v / 2 * panel + v % 2 * LANES);
    }
    if (w)
        UNROLL for (int v = 0; v < vectors; v++) store(w + v * LANES, load(w + v * LANES) - splat(eta) * sum[v]);
    else
        UNROLL for (int v = 0; v < vectors; v++) store(g + v * LANES, sum[v]);
}

#define VECTOR_CASES(F, ...)                                                                         \
    F(1, __VA_ARGS__) F(2, __VA_ARGS__) F(3, __VA_ARGS__) F(4, __VA_ARGS__) F(5, __VA_ARGS__)        \
    F(6, __VA_ARGS__) F(7, __VA_ARGS__) F(8, __VA_ARGS__) F(9, __VA_ARGS__) F(10, __VA_ARGS__)       \
    F(11, __VA_ARGS__) F(12, __VA_ARGS__) F(13, __VA_ARGS__) F(14, __VA_ARGS__)
#define VECTOR_CASE(vectors, sum, ...) \
    case vectors: sum(vectors, __VA_ARGS__); break;

static void sum_row_of(int vectors, int64_t n, const uint32_t *columns, const real *x, const real *w, int64_t width,
                       real *z, int64_t panel) {
    switch (vectors) { VECTOR_CASES(VECTOR_CASE, sum_row, n, columns, x, w, width, z, panel) }
}

static void sum_column_of(int vectors, int64_t n, const Entry *entry, const real *delta, int64_t panel, int add,
                          real *g, real *w, real eta) {
    switch (vectors) { VECTOR_CASES(VECTOR_CASE, sum_column, n, entry, delta, panel, add, g, w, eta) }
}

/* How many of so many vectors are summed at once: an even number, so that panels stay whole, or all that are left. */
INLINE int vectors_at_once(int64_t vectors) { return vectors > SUM_VECTORS ? SUM_VECTORS / 2 * 2 : (int)vectors; }

/* z = b + scale Σ x W[k] of the entries begin … begin + n − 1 of X, for so many vectors of units; of W, b and z the
   addresses of the first of them. */
static void sparse_row(const Rows *X, int64_t begin, int64_t n, int64_t vectors, const real *w, int64_t width,
                       const real *b, real scale, real *z, int64_t panel) {
    const Rows rows = *X; /* no store changes this copy: the loops have it in registers */
    uint32_t columns[STAGED];
    for (int64_t v = 0; v < vectors; v++) store(z + v / 2 * panel + v % 2 * LANES, splat(0));
    for (int64_t done = 0, some; done < n; done += some) {
        some = n - done < STAGED ? n - done : STAGED;
        for (int64_t e = 0; e < some; e++) columns[e] = column_at(&rows, begin + done + e);
        for (int64_t v = 0; v < vectors; v += SUM_VECTORS)
            sum_row_of(vectors_at_once(vectors - v), some, columns, X->values + begin + done, w + v * LANES, width,
                       z + v / 2 * panel, panel);
    }
    for (int64_t v = 0; v < vectors; v++) {
        real *at = z + v / 2 * panel + v % 2 * LANES;
        store(at, load(b + v * LANES) + splat(scale) * load(at));
    }
}

/* g = Σ x δ of a run of entries of one column, for so many vectors of units; see sum_column. */
static void sparse_column(int64_t n, const Entry *entry, int64_t vectors, const real *delta, int64_t panel, int add,
                          real *g, real *w, real eta) {
    for (int64_t v = 0; v < vectors; v += SUM_VECTORS)
        sum_column_of(vectors_at_once(vectors - v), n, entry, delta + v / 2 * panel, panel, add, g + v * LANES,
                      w ? w + v * LANES : NULL, eta);
}

/* out[k] = Σ δ W[k] over the units, for all inputs. */
static void sparse_down(int64_t n_in, int64_t vectors, const real *w, const real *delta, int64_t panel, real *out) {
    for (int64_t k = 0; k < n_in; k++, w += vectors * LANES) {
        vec sum = splat(0);
        for (int64_t v = 0; v < vectors; v++) sum += load(w + v * LANES) * load(delta + v / 2 * panel + v % 2 * LANES);
        real total = 0;
        for (int i = 0; i < LANES; i++) total += sum[i];
        out[k] = total;
    }
}

/* Entries begin … begin + n − 1 of X, as those of a row of the minibatch. */
static void take_entries(const Rows *X, int64_t begin, int64_t n, int64_t row, Entry *to) {
    const Rows rows = *X;
    for (int64_t e = 0; e < n; e++) {
        to[e].column = column_at(&rows, begin + e);
        to[e].row = (uint32_t)row;
        to[e].x = rows.values[begin + e];
    }
}

/* n entries into the order of their columns, those of a column staying in order; columns are below n_in. By digits of 8
   or 11 bits, from the last; `spare` has room for as many, and the result is in `entries`. */
static void sort_entries(int64_t n, Entry *entries, Entry *spare, int64_t n_in) {
    int64_t i = 1;
    while (i < n && entries[i - 1].column <= entries[i].column) i++;
    if (i >= n) return;
    if (n <= FEW_ENTRIES) {
        for (; i < n; i++) {
            Entry x = entries[i];
            int64_t at = i;
            for (; at > 0 && entries[at - 1].column > x.column; at--) entries[at] = entries[at - 1];
            entries[at] = x;
        }
        return;
    }
    const int bits = n < 1500 ? 8 : 11;
    const uint32_t mask = (1u << bits) - 1;
    uint32_t place[1 << 11];
    Entry *from = entries, *to = spare;
    for (int shift = 0; (n_in - 1) >> shift > 0; shift += bits) {
        uint32_t sum = 0;
        memset(place, 0, sizeof(uint32_t) << bits);
        for (i = 0; i < n; i++) place[from[i].column >> shift & mask]++;
        for (uint32_t d = 0; d <= mask; d++) {
            uint32_t count = place[d];
            place[d] = sum;
            sum += count;
        }
        for (i = 0; i < n; i++) to[place[from[i].column >> shift & mask]++] = from[i];
        Entry *swap = from;
        from = to;
        to = swap;
    }
    if (from != entries) memcpy(entries, from, n * sizeof(Entry));
}

/* Of n sorted entries the first whose column is k or more. */
static int64_t first_entry(int64_t n, const Entry *entries, int64_t k) {
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (entries[middle].column < k) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* From the first of n sorted entries on, those of its column. */
INLINE int64_t same_column(int64_t n, const Entry *entries) {
    int64_t i = 1;
    while (i < n && entries[i].column == entries[0].column) i++;
    return i;
}

#endif

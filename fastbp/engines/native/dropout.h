/* Dropout masks, LANES units of a row at a time: the hash of fastbp/engines/dropout.py.

   Of a unit's part of it a panel needs one for all its rows, and of a row's one for all its units. */
#ifndef FASTBP_DROPOUT_H
#define FASTBP_DROPOUT_H

#include "simd.h"

typedef uint32_t hashes __attribute__((vector_size(4 * LANES)));
typedef int32_t decisions __attribute__((vector_size(4 * LANES)));

static inline uint32_t mix32(uint32_t x) {
    x = (x ^ x >> 16) * UINT32_C(0x7FEB352D);
    x = (x ^ x >> 15) * UINT32_C(0x846CA68B);
    return x ^ x >> 16;
}

/* Of units unit … unit + LANES−1. */
INLINE hashes hash_units(int64_t unit) {
    hashes x;
    for (int i = 0; i < LANES; i++) x[i] = (uint32_t)(unit + i) * UINT32_C(0x85EBCA6B);
    return x;
}

static inline uint32_t hash_row(uint64_t key, int64_t row) {
    return mix32((uint32_t)key ^ (uint32_t)row * UINT32_C(0x9E3779B9));
}

/* `scale` where the hash is the threshold or more, 0 elsewhere. */
INLINE vec kept_units(hashes units, uint32_t row, uint64_t key, uint32_t threshold, vec scale) {
    hashes x = (units + row) ^ (uint32_t)(key >> 32);
    x = (x ^ x >> 16) * UINT32_C(0x7FEB352D);
    x = (x ^ x >> 15) * UINT32_C(0x846CA68B);
    x ^= x >> 16;
    const decisions keep = (decisions)(x >= threshold);
    return (vec)(__builtin_convertvector(keep, ivec) & (ivec)scale);
}

#endif

/* Who is in an engine: one call at a time, by whichever thread, and not again from within it. */
#ifndef FASTBP_GUARD_H
#define FASTBP_GUARD_H

#include <stdatomic.h>

typedef struct {
    atomic_int taken;
} Guard;

/* 1 where it was free, and now is the caller's. */
static inline int guard_take(Guard *guard) {
    int is_free = 0;
    return atomic_compare_exchange_strong(&guard->taken, &is_free, 1);
}
static inline void guard_leave(Guard *guard) { atomic_store(&guard->taken, 0); }

#endif

/* A team of threads that lives as long as one call, and its barrier.

   team_run starts threads 1 … n−1, is itself thread 0, and returns when all have finished: nothing runs
   on between calls, so a process may fork at any time. The barrier spins (a step is often shorter than a
   system call), then lets others run on its CPU, then sleeps. At a barrier the team may change the number
   of its threads that share the work; the others rest. */
#ifndef FASTBP_TEAM_H
#define FASTBP_TEAM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#else
#include <fenv.h>
#endif
#include <stdint.h>

/* A new thread often starts on its maker's CPU and stays there for milliseconds. So each member starts on
   a CPU of its own, where the process may use enough of them, and is free to move from then on. */
typedef struct {
#if defined(__linux__)
    cpu_set_t allowed;
#endif
    int placed;
} Placement;

#if defined(__linux__)
static int start_member(pthread_t *id, void *(*run)(void *), void *member, Placement *place, int thread) {
    pthread_attr_t attributes;
    cpu_set_t one;
    int cpu, here = sched_getcpu(), left = thread;
    place->placed = !sched_getaffinity(0, sizeof place->allowed, &place->allowed) &&
                    CPU_COUNT(&place->allowed) > thread;
    if (!place->placed) return pthread_create(id, NULL, run, member);
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++) /* the thread-th allowed CPU that is not this one */
        if (cpu != here && CPU_ISSET(cpu, &place->allowed) && --left == 0) break;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof one, &one);
    int error = pthread_create(id, &attributes, run, member);
    pthread_attr_destroy(&attributes);
    return error;
}
static void set_free(const Placement *place) {
    if (place->placed) sched_setaffinity(0, sizeof place->allowed, &place->allowed);
}
#else
static int start_member(pthread_t *id, void *(*run)(void *), void *member, Placement *place, int thread) {
    place->placed = 0;
    return pthread_create(id, NULL, run, member);
}
static void set_free(const Placement *place) {}
#endif

typedef struct {
    int members; /* threads that there are */
    int threads; /* of them, 0 … threads−1 share the work */
    int wanted;  /* as many shall from the next barrier on; thread 0 says */
    int over;    /* nobody need rest any longer */
    void (*work)(void *argument, int thread);
    void *argument;
    atomic_int waiting;
    atomic_llong phase; /* counts barriers passed, and below PHASE says how many threads share the work */
    atomic_llong next;  /* for team_next */
    pthread_mutex_t mutex;
    pthread_cond_t passed, woken;
} Team;

typedef struct {
    Team *team;
    int thread;
    Placement placement;
} Member;

#define TEAM_MOST 256 /* threads in a team at most */
#define PHASE 512
#define SPINS 300   /* turns of the waiting loop, a few microseconds */
#define YIELDS 2000 /* then offers of the CPU to another thread before sleeping */

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Returns how many threads share the work from here on: where it is not more than its own number, a
   thread must rest. Should that number have changed again before it looks, it sees the newer one. */
static int team_barrier(Team *team) {
    const int threads = team->threads; /* the last to arrive may change it */
    if (threads == 1 && team->wanted == 1) return 1;
    const long long phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    long long now;
    if (atomic_fetch_add_explicit(&team->waiting, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&team->waiting, 0, memory_order_relaxed);
        pthread_mutex_lock(&team->mutex); /* no sleeper may miss the change */
        if (team->wanted > threads) pthread_cond_broadcast(&team->woken);
        team->threads = team->wanted;
        now = (phase / PHASE + 1) * PHASE + team->threads;
        atomic_store_explicit(&team->phase, now, memory_order_release);
        pthread_cond_broadcast(&team->passed);
        pthread_mutex_unlock(&team->mutex);
        return (int)(now % PHASE);
    }
    for (int i = 0; i < SPINS + YIELDS; i++) {
        now = atomic_load_explicit(&team->phase, memory_order_acquire);
        if (now != phase) return (int)(now % PHASE);
        if (i < SPINS) relax();
        else sched_yield();
    }
    pthread_mutex_lock(&team->mutex);
    while ((now = atomic_load_explicit(&team->phase, memory_order_acquire)) == phase)
        pthread_cond_wait(&team->passed, &team->mutex);
    pthread_mutex_unlock(&team->mutex);
    return (int)(now % PHASE);
}

/* Sleep until this thread shares the work again: 1, or until the team is over: 0. */
static int team_rest(Team *team, int thread) {
    pthread_mutex_lock(&team->mutex);
    while (team->threads <= thread && !team->over) pthread_cond_wait(&team->woken, &team->mutex);
    const int over = team->over;
    pthread_mutex_unlock(&team->mutex);
    return !over;
}

/* From thread 0 at the end of its work: let those that rest return. */
static void team_over(Team *team) {
    if (team->members == 1) return;
    pthread_mutex_lock(&team->mutex);
    team->over = 1;
    pthread_cond_broadcast(&team->woken);
    pthread_mutex_unlock(&team->mutex);
}

/* Seconds on a clock that only runs forward. */
static inline double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Rounding to nearest, denormals kept (but by bf16 instructions), nothing trapped: a call's arithmetic,
   whatever the caller's is.
   Threads inherit it. Returns what was. */
static inline unsigned standard_arithmetic(void) {
#if defined(__x86_64__)
    unsigned was = _mm_getcsr();
    _mm_setcsr(0x1F80);
    return was;
#else
    unsigned was = (unsigned)fegetround();
    fesetround(FE_TONEAREST);
    return was;
#endif
}
static inline void restore_arithmetic(unsigned was) {
#if defined(__x86_64__)
    _mm_setcsr(was);
#else
    fesetround((int)was);
#endif
}

/* 0, 1, 2, … in the order asked for: hands out pieces of work. */
static inline int64_t team_next(Team *team) { return atomic_fetch_add(&team->next, 1); }

/* Let team_next give no more pieces that anyone has. */
static inline void team_finish(Team *team) { atomic_store(&team->next, INT64_MAX / 2); }

static void *team_member(void *p) {
    Member *member = p;
    Team *team = member->team;
    set_free(&member->placement);
    pthread_mutex_lock(&team->mutex); /* held until the team is complete */
    pthread_mutex_unlock(&team->mutex);
    team->work(team->argument, member->thread);
    return NULL;
}

/* Run work(argument, thread) on up to `threads` threads that may call team_barrier; where the system
   refuses a thread the team is smaller, as team->members says. */
static void team_run(Team *team, int threads, void (*work)(void *, int), void *argument) {
    pthread_t ids[TEAM_MOST];
    Member members[TEAM_MOST];
    int started = 1;
    const unsigned arithmetic = standard_arithmetic();
    team->members = team->threads = team->wanted = 1;
    team->over = 0;
    team->work = work;
    team->argument = argument;
    atomic_init(&team->waiting, 0);
    atomic_init(&team->phase, 1);
    atomic_init(&team->next, 0);
    if (threads == 1) {
        work(argument, 0);
        restore_arithmetic(arithmetic);
        return;
    }
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->passed, NULL);
    pthread_cond_init(&team->woken, NULL);
    pthread_mutex_lock(&team->mutex);
    while (started < threads) {
        Member *member = &members[started];
        member->team = team;
        member->thread = started;
        if (start_member(&ids[started], team_member, member, &member->placement, started)) break;
        started++;
    }
    team->members = team->threads = team->wanted = started;
    pthread_mutex_unlock(&team->mutex);
    work(argument, 0);
    for (int i = 1; i < started; i++) pthread_join(ids[i], NULL);
    pthread_cond_destroy(&team->passed);
    pthread_cond_destroy(&team->woken);
    pthread_mutex_destroy(&team->mutex);
    restore_arithmetic(arithmetic);
}

#endif

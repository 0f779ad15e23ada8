/* A team of threads, the jobs they share, and their barrier.

   team_run gives threads 1 … n−1 their parts of a job, does thread 0's itself, and returns when all are
   done. The threads end with the call, or where team->kept wait for the next one until team_end. A forked
   child has none of its parent's threads, sees that, and starts its own: a process may fork at any time
   between two calls. Whoever waits spins (a step is often shorter than a system call), then lets others
   run on its CPU, then sleeps. After a barrier the team may change the number of its threads that share
   the work; the others rest. */
#ifndef FASTBP_TEAM_H
#define FASTBP_TEAM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "threads.h"

#include <stdatomic.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <fenv.h>
#endif
#include <stdint.h>

#define TEAM_MOST 256 /* threads in a team at most */
#define ROUNDS_MOST 8 /* of a barrier: log2 of that */

/* How many rounds of barriers a thread has come to: it counts, the others read. A pair of cache lines of its
   own, as they are fetched in pairs. */
typedef struct {
    atomic_llong rounds;
    char unused[128 - sizeof(atomic_llong)];
} Seat;

typedef struct {
    Seat *seat;  /* for each of the threads there may be; room for them is the caller's */
    int members; /* threads that have the job */
    int threads; /* of them, 0 … threads−1 share the work */
    int wanted;  /* as many shall; thread 0 may change it between two barriers */
    int over;    /* nobody need rest any longer */
    long long start; /* the count of rounds with which a thread comes to share the work */
    void (*work)(void *argument, int thread);
    void *argument;
    atomic_llong next;  /* for team_next */

    int kept;   /* the threads stay from job to job */
    int others; /* threads that there are, besides thread 0 */
    int seated; /* of them, those that have taken their number */
    int process; /* that they belong to; 0: none, and nothing below is set up */
    Thread id[TEAM_MOST];
    atomic_int busy;   /* the others that have not done their part of the job */
    atomic_llong job;  /* counts jobs, and below PHASE says for how many threads: for none, all end */
    atomic_llong done; /* the last job that nobody is busy with */
    Mutex mutex;
    Condition passed, woken;
#if defined(__GLIBC__)
    cpu_set_t allowed; /* CPUs, where new threads have been placed on some of them */
    int placed;
#endif
} Team;

/* A new thread often starts on its maker's CPU and stays there for milliseconds. So each member starts on
   a CPU of its own, where the process may use enough of them, and is free to move from then on. Other C
   libraries than GNU's start threads where they like. */
THREAD_FUNCTION team_member(void *team);

#if defined(__GLIBC__)
static int start_member(Team *team, int thread) {
    pthread_attr_t attributes;
    cpu_set_t one;
    int cpu, here = sched_getcpu(), left = thread;
    if (sched_getaffinity(0, sizeof team->allowed, &team->allowed) || CPU_COUNT(&team->allowed) <= thread)
        return thread_start(&team->id[thread], team_member, team);
    team->placed = 1;
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++) /* the thread-th allowed CPU that is not this one */
        if (cpu != here && CPU_ISSET(cpu, &team->allowed) && --left == 0) break;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof one, &one);
    int error = pthread_create(&team->id[thread], &attributes, team_member, team);
    pthread_attr_destroy(&attributes);
    return error;
}
static void set_free(const Team *team) {
    if (team->placed) sched_setaffinity(0, sizeof team->allowed, &team->allowed);
}
#else
static int start_member(Team *team, int thread) { return thread_start(&team->id[thread], team_member, team); }
static void set_free(const Team *team) {}
#endif

#define PHASE 512   /* more than TEAM_MOST */
#define SPINS 300   /* turns of the waiting loop, a few microseconds */
#define YIELDS 2000 /* then offers of the CPU to another thread before sleeping */

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Wait until the word is no longer what it was, and return what it is. Who changes it has the mutex, and
   broadcasts `changed`. */
static long long await_change(Team *team, atomic_llong *word, long long was, Condition *changed) {
    long long now;
    for (int i = 0; i < SPINS + YIELDS; i++) {
        now = atomic_load_explicit(word, memory_order_acquire);
        if (now != was) return now;
        if (i < SPINS) relax();
        else offer_cpu();
    }
    mutex_lock(&team->mutex);
    while ((now = atomic_load_explicit(word, memory_order_acquire)) == was)
        condition_wait(changed, &team->mutex);
    mutex_unlock(&team->mutex);
    return now;
}

/* Wait until a thread has come to so many rounds. The last thing tried are naps, longer and longer: a call
   to wake up would need a lock at every barrier. */
static void await_round(Seat *seat, long long rounds) {
    long nanoseconds = 50000;
    for (int64_t i = 0; atomic_load_explicit(&seat->rounds, memory_order_acquire) < rounds; i++) {
        if (i < SPINS) relax();
        else if (i < SPINS + YIELDS) offer_cpu();
        else {
            nap(nanoseconds);
            if (nanoseconds < 1000000) nanoseconds *= 2;
        }
    }
}

/* A dissemination barrier: in round r each thread waits for the one 2^r places before it to come to that
   round, and after log2(threads) of them has heard, through others, from all. Two threads just look at each
   other, so that only two cache lines move, and at the same time. */
static void pass_barrier(Team *team, int thread, int threads) {
    Seat *own = &team->seat[thread];
    long long rounds = atomic_load_explicit(&own->rounds, memory_order_relaxed);
    for (int distance = 1; distance < threads; distance *= 2) {
        atomic_store_explicit(&own->rounds, ++rounds, memory_order_release);
        await_round(&team->seat[thread >= distance ? thread - distance : thread - distance + threads], rounds);
    }
}

static void team_barrier(Team *team, int thread) { pass_barrier(team, thread, team->threads); }

/* Right after a barrier, before which thread 0 may have changed team->wanted: let as many share the work
   from here on. A thread that is not among them rests until it is. Returns 0 where instead the team is over. */
static int team_change(Team *team, int thread) {
    const int threads = team->threads;
    if (team->wanted == threads) return 1;
    pass_barrier(team, thread, threads); /* all have seen that */
    if (thread == 0) {
        mutex_lock(&team->mutex);
        team->threads = team->wanted;
        team->start = atomic_load_explicit(&team->seat[0].rounds, memory_order_relaxed) + ROUNDS_MOST;
        condition_wake_all(&team->woken);
        mutex_unlock(&team->mutex);
    }
    pass_barrier(team, thread, threads); /* it is done */
    mutex_lock(&team->mutex);
    while (team->threads <= thread && !team->over) condition_wait(&team->woken, &team->mutex);
    const int over = team->over;
    atomic_store_explicit(&team->seat[thread].rounds, team->start, memory_order_relaxed);
    mutex_unlock(&team->mutex);
    return !over;
}

/* From thread 0 at the end of its work: let those that rest return. */
static void team_over(Team *team) {
    if (team->members == 1) return;
    mutex_lock(&team->mutex);
    team->over = 1;
    condition_wake_all(&team->woken);
    mutex_unlock(&team->mutex);
}

/* Rounding to nearest and, on x86 and ARM, denormals kept (but by bf16 instructions) and nothing trapped: a
   call's arithmetic, whatever the caller's is. Threads inherit it, or start with it. Returns what was. */
static inline uint64_t standard_arithmetic(void) {
#if defined(__x86_64__)
    const uint64_t was = _mm_getcsr();
    _mm_setcsr(0x1F80);
#elif defined(__aarch64__)
    uint64_t was;
    __asm__ volatile("mrs %0, fpcr" : "=r"(was));
    if (was != 0) __asm__ volatile("msr fpcr, %0" : : "r"(UINT64_C(0)) : "memory");
#else
    const uint64_t was = (uint64_t)fegetround();
    fesetround(FE_TONEAREST);
#endif
    return was;
}
static inline void restore_arithmetic(uint64_t was) {
#if defined(__x86_64__)
    _mm_setcsr((unsigned)was);
#elif defined(__aarch64__)
    if (was != 0) __asm__ volatile("msr fpcr, %0" : : "r"(was) : "memory");
#else
    fesetround((int)was);
#endif
}

/* 0, 1, 2, … in the order asked for: hands out pieces of work. */
static inline int64_t team_next(Team *team) { return atomic_fetch_add(&team->next, 1); }

/* Let team_next give no more pieces that anyone has. */
static inline void team_finish(Team *team) { atomic_store(&team->next, INT64_MAX / 2); }

THREAD_FUNCTION team_member(void *p) {
    Team *team = p;
    long long job = -1; /* the first it sees is the one it was started for */
    mutex_lock(&team->mutex); /* held until that is complete */
    const int thread = ++team->seated;
    set_free(team);
    mutex_unlock(&team->mutex);
    while ((job = await_change(team, &team->job, job, &team->woken)) % PHASE > 0) {
        if (job % PHASE <= thread) continue;
        atomic_store_explicit(&team->seat[thread].rounds, team->start, memory_order_relaxed);
        team->work(team->argument, thread);
        if (atomic_fetch_sub_explicit(&team->busy, 1, memory_order_acq_rel) > 1) continue;
        mutex_lock(&team->mutex);
        atomic_store_explicit(&team->done, job, memory_order_release);
        condition_wake_all(&team->passed);
        mutex_unlock(&team->mutex);
    }
    return 0;
}

/* From thread 0, with the mutex: the next job, for so many threads. */
static void announce(Team *team, int threads) {
    const long long job = atomic_load_explicit(&team->job, memory_order_relaxed);
    atomic_store_explicit(&team->job, (job / PHASE + 1) * PHASE + threads, memory_order_release);
    condition_wake_all(&team->woken);
}

/* End the threads that stayed. */
static void team_end(Team *team) {
    if (team->process != 0 && team->process == current_process()) {
        mutex_lock(&team->mutex);
        announce(team, 0);
        mutex_unlock(&team->mutex);
        for (int i = 1; i <= team->others; i++) thread_join(team->id[i]);
        condition_destroy(&team->passed);
        condition_destroy(&team->woken);
        mutex_destroy(&team->mutex);
    }
    team->process = 0;
}

/* In a forked child, where a call of another thread was cut off: threads there are none, and its seats, so
   many, may be at any round. */
static void team_forget(Team *team, int threads) {
    team->process = 0;
    team->kept = 0;
    for (int i = 0; i < threads; i++) atomic_init(&team->seat[i].rounds, 0);
}

/* Run work(argument, thread) on up to `threads` threads that may call team_barrier; where the system
   refuses a thread they are fewer, as team->members says. */
static void team_run(Team *team, int threads, void (*work)(void *, int), void *argument) {
    const uint64_t arithmetic = standard_arithmetic();
    const int alone = threads == 1;
    long long done = 0;
    if (!alone) {
        if (team->process != current_process()) {
            team->process = current_process();
            team->others = team->seated = 0;
            atomic_init(&team->job, 0);
            atomic_init(&team->done, 0);
            mutex_init(&team->mutex);
            condition_init(&team->passed);
            condition_init(&team->woken);
        }
        mutex_lock(&team->mutex);
        while (team->others < threads - 1 && !start_member(team, team->others + 1))
            team->others++;
        if (threads > team->others + 1) threads = team->others + 1;
        done = atomic_load_explicit(&team->done, memory_order_relaxed);
    }
    team->members = team->threads = team->wanted = threads;
    team->over = 0;
    team->work = work;
    team->argument = argument;
    team->start = atomic_load_explicit(&team->seat[0].rounds, memory_order_relaxed); /* nobody's is higher */
    atomic_init(&team->next, 0);
    atomic_init(&team->busy, threads - 1);
    if (!alone) {
        if (threads > 1) announce(team, threads);
        mutex_unlock(&team->mutex);
    }
    work(argument, 0);
    if (threads > 1) await_change(team, &team->done, done, &team->passed);
    if (!team->kept) team_end(team);
    restore_arithmetic(arithmetic);
}

#endif

/* The threads of this process, the jobs that they share, and their barrier.

   There is one crew of threads for the process, whatever engines it has. It is made when a job first asks
   for it, and sleeps between jobs, after a short spin: woken it comes within microseconds, and without work
   it takes no time. It has one job at a time; who comes meanwhile does his alone. team_run gives threads
   1 … n−1 their parts of a job, does thread 0's itself, and returns when all are done. A forked child has
   none of its parent's threads, forgets them, and makes its own.

   Within a job whoever waits spins (a step is often shorter than a system call), then lets others run on its
   CPU, then sleeps. After a barrier the team may change the number of its threads that share the work; the
   others rest. */
#ifndef FASTBP_TEAM_H
#define FASTBP_TEAM_H

#include "threads.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <fenv.h>
#endif
#include <stdint.h>
#include <string.h>

#define TEAM_MOST 256 /* threads in a team at most */
#define ROUNDS_MOST 8 /* of a barrier: log2 of that */

/* A thread's own. Nothing else is in its cache lines, two of them, as they are fetched in pairs. */
typedef struct {
    _Alignas(128) atomic_llong rounds; /* of barriers that it has come to: it counts, the others read */
    Word call; /* to a job; odd until the thread has taken it, or thread 0 has taken it back */
    _Alignas(128) atomic_ullong taken; /* of its pieces: see team_take */
} Seat;

typedef struct {
    int members; /* threads that have the job */
    int threads; /* of them, 0 … threads−1 share the work */
    int wanted;  /* as many shall; thread 0 may change it between two barriers */
    long long start;   /* the count of rounds with which a thread comes to share the work */
    atomic_llong next; /* for team_next */
} Team;

typedef struct {
    Seat seat[TEAM_MOST];
    atomic_int taken;  /* by a job */
    atomic_int others; /* threads that there are, besides thread 0 */
    atomic_int wait;   /* nanoseconds that one of them has lately taken to wake up; 0: not known */
    int watched;       /* forgotten by forked children */
    Team *team;        /* of the job */
    void (*work)(void *argument, int thread); /* NULL: all end */
    void *argument;
    atomic_int busy; /* threads that have not done their part */
    Word done;       /* counts the jobs that another than thread 0 was the last to be through with */
    Word shares;     /* counts changes of the team, and below PHASE has its threads that share the work, or OVER */
    int slept;       /* thread 1 did when it was called, */
    double called;   /* then */
    Thread id[TEAM_MOST];
#if defined(__GLIBC__)
    cpu_set_t allowed[TEAM_MOST]; /* CPUs, of threads that were placed on one of them; else none */
#endif
} Crew;

/* Each module of the engine has room for one. All use the same: fastbp/engines/native/__init__.py. */
static Crew own_crew;
static Crew *crew = &own_crew;

#define PHASE 512   /* more than TEAM_MOST */
#define OVER 0
#define SPINS 300   /* turns of a waiting loop, some microseconds */
#define YIELDS 2000 /* then offers of the CPU to another thread before sleeping, in the middle of a job, */
#define IDLE_YIELDS 50 /* and after it: as long as it takes to be woken, 50 µs with the spins */

#define SPINNING 500     /* nanoseconds in which a thread comes that does not sleep yet, */
#define STARTING 50000   /* one that is yet to be made, */
#define WAIT_MOST 100000 /* and one that sleeps, at most */

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Wait until the word is no longer what it was, and return what it is. */
static int await_change(Word *word, int was, int yields) {
    int now;
    for (int i = 0; i < SPINS + yields; i++) {
        if ((now = atomic_load_explicit(&word->value, memory_order_acquire)) != was) return now;
        if (i < SPINS) relax();
        else offer_cpu();
    }
    word_sleep(word, was);
    return atomic_load_explicit(&word->value, memory_order_acquire);
}

/* Wait until a thread has come to so many rounds. The last thing tried are naps, longer and longer: a call
   to wake up would have to be looked for at every barrier. */
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
static void pass_barrier(int thread, int threads) {
    Seat *own = &crew->seat[thread];
    if (threads == 1) return; /* it may be somebody else's seat */
    long long rounds = atomic_load_explicit(&own->rounds, memory_order_relaxed);
    for (int distance = 1; distance < threads; distance *= 2) {
        atomic_store_explicit(&own->rounds, ++rounds, memory_order_release);
        await_round(&crew->seat[thread >= distance ? thread - distance : thread - distance + threads], rounds);
    }
}

static void team_barrier(Team *team, int thread) { pass_barrier(thread, team->threads); }

/* From thread 0: from now on so many share the work, or it is OVER. */
static void tell_shares(int threads) {
    const int was = atomic_load_explicit(&crew->shares.value, memory_order_relaxed);
    atomic_store(&crew->shares.value, (int)(((unsigned)was / PHASE + 1) * PHASE) + threads);
    word_wake(&crew->shares);
}

/* Right after a barrier, before which thread 0 may have changed team->wanted: let as many share the work
   from here on. A thread that is not among them rests until it is. Returns 0 where instead the team is over. */
static int team_change(Team *team, int thread) {
    const int threads = team->threads;
    int shares;
    if (team->wanted == threads) return 1;
    pass_barrier(thread, threads); /* all have seen that */
    if (thread == 0) {
        team->threads = team->wanted;
        team->start = atomic_load_explicit(&crew->seat[0].rounds, memory_order_relaxed) + ROUNDS_MOST;
        tell_shares(team->threads);
    }
    pass_barrier(thread, threads); /* it is done */
    while ((int)((unsigned)(shares = atomic_load(&crew->shares.value)) % PHASE) <= thread) {
        if ((unsigned)shares % PHASE == OVER) return 0;
        word_sleep(&crew->shares, shares);
    }
    atomic_store_explicit(&crew->seat[thread].rounds, team->start, memory_order_relaxed);
    return 1;
}

/* From thread 0 at the end of its work: let those that rest return. */
static void team_over(Team *team) {
    if (team->members > 1) tell_shares(OVER);
}

/* Rounding to nearest and, on x86 and ARM, denormals kept (but by bf16 instructions) and nothing trapped: a
   call's arithmetic, whatever the caller's is. Threads are made with it. Returns what was. */
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

/* Between two barriers each thread has `pieces` of work of its own. */
typedef struct {
    int thread, pieces; /* whose turn it is; pieces of each thread, fewer than 2^16 */
    int owner, piece;   /* what it has now; with one piece for each thread that is its own */
    int asked;          /* threads whose pieces have all been taken, or its own next piece */
} Turn;

static inline Turn team_turn(int thread, int64_t pieces) { return (Turn){thread, (int)pieces, thread, -1, 0}; }

/* Its next piece, or once it has none, one that another thread has not begun: a CPU that is slower, or has other
   work too, so does less. A thread takes its own from the first on, the others from its last, so that its memory stays
   with it. Returns 0 where there is none. `taken` counts both, beside the barrier since which it does. */
static int team_take(const Team *team, Turn *turn) {
    if (turn->pieces == 1 || team->threads == 1) return turn->piece = turn->asked++, turn->piece < turn->pieces;
    const uint64_t since = (uint64_t)atomic_load_explicit(&crew->seat[turn->thread].rounds, memory_order_relaxed) << 32;
    for (; turn->asked < team->threads; turn->asked++) {
        turn->owner = (turn->thread + turn->asked) % team->threads;
        atomic_ullong *taken = &crew->seat[turn->owner].taken;
        unsigned long long was = atomic_load_explicit(taken, memory_order_relaxed), count, first, last;
        do {
            count = was >> 32 == since >> 32 ? was : since;
            first = count >> 16 & 0xFFFF;
            last = count & 0xFFFF;
            if (first + last >= (unsigned)turn->pieces) break;
            count += turn->asked == 0 ? 1 << 16 : 1;
        } while (!atomic_compare_exchange_weak_explicit(taken, &was, count, memory_order_relaxed, memory_order_relaxed));
        if (first + last >= (unsigned)turn->pieces) continue;
        turn->piece = turn->asked == 0 ? (int)first : turn->pieces - 1 - (int)last;
        return 1;
    }
    return 0;
}

/* Wake those whose part that is, of so many threads that are called: each wakes two. */
static void pass_call(int thread, int threads) {
    for (int other = 2 * thread + 1; other <= 2 * thread + 2 && other < threads; other++)
        word_wake(&crew->seat[other].call);
}

/* It took so many seconds to wake one up; or more, where `at_least`. */
static void note_wait(double seconds, int at_least) {
    const int was = atomic_load_explicit(&crew->wait, memory_order_relaxed);
    const int now = seconds < 1e-9 * WAIT_MOST ? (int)(1e9 * seconds) : WAIT_MOST;
    if (now > was || !at_least) atomic_store_explicit(&crew->wait, was + (now - was) / 4, memory_order_relaxed);
}

/* Nanoseconds that it takes, as far as is known, until so many threads are there. */
static int64_t team_wait(int threads) {
    int awake = atomic_load_explicit(&crew->others, memory_order_relaxed) >= threads - 1;
    for (int i = 1; i < threads && awake; i++)
        awake = atomic_load_explicit(&crew->seat[i].call.asleep, memory_order_relaxed) == 0;
    if (awake) return SPINNING;
    int wait = atomic_load_explicit(&crew->wait, memory_order_relaxed);
    if (wait == 0) wait = STARTING;
    /* Where no call is worth it, many calls are. */
    atomic_store_explicit(&crew->wait, wait - wait / 32, memory_order_relaxed);
    return wait;
}

#if defined(__GLIBC__)
/* A new thread often starts on its maker's CPU and stays there for milliseconds. So each starts on a CPU of
   its own, where the process may use enough of them, and is free to move from then on. Other C libraries
   than GNU's start threads where they like. */
static int start_member(int thread, ThreadFunction run) {
    pthread_attr_t attributes;
    cpu_set_t one, *allowed = &crew->allowed[thread];
    int cpu, here = sched_getcpu(), left = thread;
    if (sched_getaffinity(0, sizeof *allowed, allowed) || CPU_COUNT(allowed) <= thread) {
        CPU_ZERO(allowed);
        return thread_start(&crew->id[thread], run, &crew->seat[thread]);
    }
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++) /* the thread-th allowed CPU that is not this one */
        if (cpu != here && CPU_ISSET(cpu, allowed) && --left == 0) break;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof one, &one);
    int error = pthread_create(&crew->id[thread], &attributes, run, &crew->seat[thread]);
    pthread_attr_destroy(&attributes);
    return error;
}
static void set_free(int thread) {
    if (CPU_COUNT(&crew->allowed[thread]) > 0)
        sched_setaffinity(0, sizeof crew->allowed[thread], &crew->allowed[thread]);
}
#else
static int start_member(int thread, ThreadFunction run) {
    return thread_start(&crew->id[thread], run, &crew->seat[thread]);
}
static void set_free(int thread) {}
#endif

THREAD_FUNCTION crew_member(void *seat) {
    Seat *own = seat;
    const int thread = (int)(own - crew->seat);
    int call = atomic_load(&own->call.value) & ~1; /* the one that it was made for may have come already */
    set_free(thread);
    for (;;) {
        call = await_change(&own->call, call, IDLE_YIELDS);
        if (!(call & 1) || !atomic_compare_exchange_strong(&own->call.value, &call, call + 1)) continue;
        call++;
        if (crew->work == NULL) return 0;
        pass_call(thread, crew->team->members);
        if (thread == 1 && crew->slept) note_wait(seconds_now() - crew->called, 0);
        atomic_store_explicit(&own->rounds, crew->team->start, memory_order_relaxed);
        crew->work(crew->argument, thread);
        if (atomic_fetch_sub(&crew->busy, 1) > 1) continue;
        atomic_fetch_add(&crew->done.value, 1);
        word_wake(&crew->done);
    }
}

/* In a forked child: there are no threads, whatever they were at. */
static void forget_crew(void) {
    const int others = atomic_load(&crew->others);
    for (int i = 0; i <= others; i++) memset(&crew->seat[i], 0, sizeof(Seat));
    memset(&crew->done, 0, sizeof(Word));
    memset(&crew->shares, 0, sizeof(Word));
    atomic_store(&crew->others, 0);
    atomic_store(&crew->taken, 0);
}

static int take_crew(void) {
    int is_free = 0;
    return atomic_compare_exchange_strong(&crew->taken, &is_free, 1);
}

static void leave_crew(void) { atomic_store(&crew->taken, 0); }

/* So many threads for who has taken the crew, or as many as the system allows. */
static int gather_crew(int threads) {
    int others = atomic_load(&crew->others);
    Signals were;
    if (others < threads - 1) {
        if (!crew->watched) {
            if (forget_in_children(forget_crew)) return 1;
            crew->watched = 1;
        }
        if (others == 0) word_init(&crew->done), word_init(&crew->shares);
        hold_signals(&were);
        for (; others < threads - 1; others++) {
            word_init(&crew->seat[others + 1].call);
            if (start_member(others + 1, crew_member)) break;
        }
        let_signals(&were);
        atomic_store(&crew->others, others);
    }
    return threads <= others + 1 ? threads : others + 1;
}

/* End the threads, unless they have a job: for the end of the process. */
static void end_crew(void) {
    if (!take_crew()) return;
    const int others = atomic_load(&crew->others);
    crew->work = NULL;
    for (int i = 1; i <= others; i++) {
        atomic_fetch_add(&crew->seat[i].call.value, 1);
        word_wake(&crew->seat[i].call);
    }
    for (int i = 1; i <= others; i++) thread_join(crew->id[i]);
    atomic_store(&crew->others, 0);
    leave_crew();
}

static void call_crew(Team *team, void (*work)(void *, int), void *argument) {
    team->start = atomic_load_explicit(&crew->seat[0].rounds, memory_order_relaxed); /* nobody's is higher */
    crew->team = team;
    crew->work = work;
    crew->argument = argument;
    atomic_store(&crew->busy, team->members);
    tell_shares(team->members);
    crew->slept = atomic_load(&crew->seat[1].call.asleep) > 0;
    if (crew->slept) crew->called = seconds_now();
    for (int i = 1; i < team->members; i++) atomic_fetch_add(&crew->seat[i].call.value, 1);
    pass_call(0, team->members);
}

/* Thread 0 is through, and needs nobody who has not come yet: how many of them there are. */
static int take_back(const Team *team) {
    int missing = 0;
    for (int i = 1; i < team->members; i++) {
        int call = atomic_load(&crew->seat[i].call.value);
        if (!(call & 1) || !atomic_compare_exchange_strong(&crew->seat[i].call.value, &call, call + 1)) continue;
        if (i == 1 && crew->slept) note_wait(seconds_now() - crew->called, 1);
        missing++;
    }
    return missing;
}

/* Run work(argument, thread) on up to `threads` threads; where the crew has a job, or the system refuses a
   thread, they are fewer, as team->members says. With `all` each of them has a part, and they may call
   team_barrier; else who comes late may find that the others have done it all. */
static void team_run(Team *team, int threads, int all, void (*work)(void *, int), void *argument) {
    const uint64_t arithmetic = standard_arithmetic();
    const int taken = threads > 1 && take_crew();
    int done = 0, left;
    team->members = team->threads = team->wanted = taken ? gather_crew(threads) : 1;
    atomic_init(&team->next, 0);
    if (team->members > 1) {
        done = atomic_load(&crew->done.value);
        call_crew(team, work, argument);
    }
    work(argument, 0);
    if (team->members > 1) {
        left = 1 + (all ? 0 : take_back(team));
        if (atomic_fetch_sub(&crew->busy, left) > left) await_change(&crew->done, done, YIELDS);
    }
    if (taken) leave_crew();
    restore_arithmetic(arithmetic);
}

#endif

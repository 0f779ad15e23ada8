/* Threads, words to sleep on, and clocks of the operating system: POSIX's and Linux', and Windows' own, for
   which no library of threads need be linked.

   A thread function is written THREAD_FUNCTION name(void *argument) and returns 0. */
#ifndef FASTBP_THREADS_H
#define FASTBP_THREADS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdatomic.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#include <process.h>
#undef far /* words that windows.h keeps from the days of 16 bits */
#undef near
#undef small

typedef HANDLE Thread;
typedef SRWLOCK Mutex;
typedef CONDITION_VARIABLE Condition;
typedef unsigned(__stdcall *ThreadFunction)(void *);
#define THREAD_FUNCTION static unsigned __stdcall

/* Returns 0 where it was started. */
static inline int thread_start(Thread *thread, ThreadFunction run, void *argument) {
    *thread = (HANDLE)_beginthreadex(NULL, 0, run, argument, 0, NULL);
    return *thread == NULL;
}
static inline void thread_join(Thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
static inline void mutex_init(Mutex *mutex) { InitializeSRWLock(mutex); }
static inline void mutex_lock(Mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline void mutex_unlock(Mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void condition_init(Condition *condition) { InitializeConditionVariable(condition); }
static inline void condition_wait(Condition *condition, Mutex *mutex) {
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}
static inline void condition_wake_all(Condition *condition) { WakeAllConditionVariable(condition); }

static inline void offer_cpu(void) { SwitchToThread(); }
static inline void nap(long nanoseconds) { Sleep((DWORD)(nanoseconds + 999999) / 1000000); }
static inline int forget_in_children(void (*forget)(void)) { return 0; } /* nobody forks here, */
typedef int Signals; /* and no thread takes signals */
static inline void hold_signals(Signals *were) { *were = 0; }
static inline void let_signals(const Signals *were) {}

/* Seconds on a clock that only runs forward. */
static inline double seconds_now(void) {
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    return (double)ticks.QuadPart / (double)per_second.QuadPart;
}

#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

typedef pthread_t Thread;
typedef pthread_mutex_t Mutex;
typedef pthread_cond_t Condition;
typedef sigset_t Signals;
typedef void *(*ThreadFunction)(void *);
#define THREAD_FUNCTION static void *

static inline int thread_start(Thread *thread, ThreadFunction run, void *argument) {
    return pthread_create(thread, NULL, run, argument);
}
static inline void thread_join(Thread thread) { pthread_join(thread, NULL); }
static inline void mutex_init(Mutex *mutex) { pthread_mutex_init(mutex, NULL); }
static inline void mutex_lock(Mutex *mutex) { pthread_mutex_lock(mutex); }
static inline void mutex_unlock(Mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void condition_init(Condition *condition) { pthread_cond_init(condition, NULL); }
static inline void condition_wait(Condition *condition, Mutex *mutex) { pthread_cond_wait(condition, mutex); }
static inline void condition_wake_all(Condition *condition) { pthread_cond_broadcast(condition); }

static inline void offer_cpu(void) { sched_yield(); }
static inline void nap(long nanoseconds) {
    const struct timespec time = {0, nanoseconds};
    nanosleep(&time, NULL);
}
/* Returns 0 where `forget` will be called in every forked child. */
static inline int forget_in_children(void (*forget)(void)) { return pthread_atfork(NULL, NULL, forget); }

/* A thread that outlives the call takes no signal that is for the process: a program may wait for it
   elsewhere. What a fault of its own raises stays its own. */
static inline void hold_signals(Signals *were) {
    Signals all;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV), sigdelset(&all, SIGBUS), sigdelset(&all, SIGILL), sigdelset(&all, SIGFPE);
    pthread_sigmask(SIG_SETMASK, &all, were);
}
static inline void let_signals(const Signals *were) { pthread_sigmask(SIG_SETMASK, were, NULL); }

static inline double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif

/* A word that threads may sleep on until it is changed. All zeros, it is one, with value 0. */
#if defined(SYS_futex) && !defined(FASTBP_WITHOUT_FUTEX) /* a test of what other systems take */
typedef struct {
    atomic_int value, asleep; /* how many sleep, or are about to */
} Word;

static inline void word_init(Word *word) {}

static void word_sleep(Word *word, int was) {
    atomic_fetch_add(&word->asleep, 1);
    while (atomic_load(&word->value) == was) syscall(SYS_futex, &word->value, FUTEX_WAIT_PRIVATE, was, NULL, NULL, 0);
    atomic_fetch_sub(&word->asleep, 1);
}

/* After its value has been changed. */
static inline void word_wake(Word *word) {
    if (atomic_load(&word->asleep) > 0) syscall(SYS_futex, &word->value, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
}
#else
typedef struct {
    atomic_int value, asleep;
    Mutex mutex;
    Condition changed;
} Word;

static inline void word_init(Word *word) {
    mutex_init(&word->mutex);
    condition_init(&word->changed);
}

static void word_sleep(Word *word, int was) {
    mutex_lock(&word->mutex);
    atomic_fetch_add(&word->asleep, 1);
    while (atomic_load(&word->value) == was) condition_wait(&word->changed, &word->mutex);
    atomic_fetch_sub(&word->asleep, 1);
    mutex_unlock(&word->mutex);
}

static inline void word_wake(Word *word) {
    if (atomic_load(&word->asleep) == 0) return;
    mutex_lock(&word->mutex); /* who is about to sleep does so before */
    condition_wake_all(&word->changed);
    mutex_unlock(&word->mutex);
}
#endif

#endif

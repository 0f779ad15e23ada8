/* Threads, mutexes, conditions and clocks of the operating system: POSIX's, and Windows' own, for which no
   library of threads need be linked.

   A thread function is written THREAD_FUNCTION name(void *argument) and returns 0. */
#ifndef FASTBP_THREADS_H
#define FASTBP_THREADS_H

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
#define THREAD_FUNCTION static unsigned __stdcall

/* Returns 0 where it was started. */
static inline int thread_start(Thread *thread, unsigned(__stdcall *run)(void *), void *argument) {
    *thread = (HANDLE)_beginthreadex(NULL, 0, run, argument, 0, NULL);
    return *thread == NULL;
}
static inline void thread_join(Thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
static inline void mutex_init(Mutex *mutex) { InitializeSRWLock(mutex); }
static inline void mutex_destroy(Mutex *mutex) {}
static inline void mutex_lock(Mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline void mutex_unlock(Mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void condition_init(Condition *condition) { InitializeConditionVariable(condition); }
static inline void condition_destroy(Condition *condition) {}
static inline void condition_wait(Condition *condition, Mutex *mutex) {
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}
static inline void condition_wake_all(Condition *condition) { WakeAllConditionVariable(condition); }

static inline void offer_cpu(void) { SwitchToThread(); }
static inline void nap(long nanoseconds) { Sleep((DWORD)(nanoseconds + 999999) / 1000000); }
static inline int current_process(void) { return 1; } /* nobody forks here */

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
#include <time.h>
#include <unistd.h>

typedef pthread_t Thread;
typedef pthread_mutex_t Mutex;
typedef pthread_cond_t Condition;
#define THREAD_FUNCTION static void *

static inline int thread_start(Thread *thread, void *(*run)(void *), void *argument) {
    return pthread_create(thread, NULL, run, argument);
}
static inline void thread_join(Thread thread) { pthread_join(thread, NULL); }
static inline void mutex_init(Mutex *mutex) { pthread_mutex_init(mutex, NULL); }
static inline void mutex_destroy(Mutex *mutex) { pthread_mutex_destroy(mutex); }
static inline void mutex_lock(Mutex *mutex) { pthread_mutex_lock(mutex); }
static inline void mutex_unlock(Mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void condition_init(Condition *condition) { pthread_cond_init(condition, NULL); }
static inline void condition_destroy(Condition *condition) { pthread_cond_destroy(condition); }
static inline void condition_wait(Condition *condition, Mutex *mutex) { pthread_cond_wait(condition, mutex); }
static inline void condition_wake_all(Condition *condition) { pthread_cond_broadcast(condition); }

static inline void offer_cpu(void) { sched_yield(); }
static inline void nap(long nanoseconds) {
    const struct timespec time = {0, nanoseconds};
    nanosleep(&time, NULL);
}
static inline int current_process(void) { return (int)getpid(); }

static inline double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif

#endif

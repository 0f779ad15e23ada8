/* The team, its jobs and its barrier under ThreadSanitizer: plain data that nothing else protects.

   Every thread writes its own place of an array, a barrier passes, and every thread reads all of them,
   as the two phases of a training step do. A barrier that let one through early, or that did not order
   memory, is a data race (which the sanitizer reports) or a wrong sum. Pieces are counted by who has them:
   one that two had, or nobody, is a race or a wrong count. */
#include "team.h" /* first: it asks for _GNU_SOURCE */

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 8
#define ROUNDS 200
#define PIECES 5

typedef struct {
    Team team;
    long place[MOST];
    long sum[MOST];
    int stop;
    long round;
    int64_t pieces;
    long taken[MOST];
    int had[MOST][PIECES];
    int wrong;
} Shared;

/* Between two barriers. */
static void take_pieces(Shared *shared, int thread) {
    Turn turn = team_turn(thread, PIECES);
    while (team_take(&shared->team, &turn)) shared->had[turn.owner][turn.piece]++;
}

/* From thread 0, after the second of them and before the next. */
static void count_pieces(Shared *shared, int threads) {
    for (int i = 0; i < threads; i++)
        for (int piece = 0; piece < PIECES; piece++) {
            shared->wrong += shared->had[i][piece] != 1;
            shared->had[i][piece] = 0;
        }
}

static void work(void *argument, int thread) {
    Shared *shared = argument;
    for (long round = 0; round < ROUNDS; round++) {
        shared->place[thread] = round * (thread + 1);
        team_barrier(&shared->team, thread);
        long sum = 0, expected = 0;
        for (int i = 0; i < shared->team.threads; i++) {
            sum += shared->place[i];
            expected += round * (i + 1);
        }
        shared->sum[thread] = sum - expected;
        if (thread == 0) shared->stop = round == ROUNDS - 1;
        if (round % 50 == thread) usleep(2000); /* long enough for the others to fall asleep */
        take_pieces(shared, thread);
        team_barrier(&shared->team, thread);
        if (thread == 0) count_pieces(shared, shared->team.threads);
        if (thread == 0)
            for (int i = 0; i < shared->team.threads; i++) shared->wrong += shared->sum[i] != 0;
        if (shared->stop) break;
    }
    team_barrier(&shared->team, thread);
    while (team_next(&shared->team) < shared->pieces) shared->taken[thread]++;
}

/* The same while thread 0 changes how many share the work, from round to round. */
static void regroup(void *argument, int thread) {
    Shared *shared = argument;
    long round = 0;
    while (round < ROUNDS) {
        const int threads = shared->team.threads;
        shared->place[thread] = round * (thread + 1);
        team_barrier(&shared->team, thread);
        long sum = 0, expected = 0;
        for (int i = 0; i < threads; i++) {
            sum += shared->place[i];
            expected += round * (i + 1);
        }
        shared->sum[thread] = sum - expected;
        if (round % 50 == thread) usleep(2000);
        if (thread == 0) {
            shared->round = round + 1;
            shared->team.wanted = 1 + (int)(round * 7 + round / 3) % shared->team.members;
        }
        take_pieces(shared, thread);
        team_barrier(&shared->team, thread);
        if (!team_change(&shared->team, thread)) return;
        if (thread == 0) {
            count_pieces(shared, threads);
            for (int i = 0; i < threads; i++) shared->wrong += shared->sum[i] != 0;
        }
        round = shared->round;
    }
    if (thread == 0) team_over(&shared->team);
}

/* Pieces that any thread may do, or thread 0 alone before the others have come. */
static void pieces(void *argument, int thread) {
    Shared *shared = argument;
    while (team_next(&shared->team) < shared->pieces) shared->taken[thread]++;
}

static long taken(Shared *shared) {
    long sum = 0;
    for (int i = 0; i < MOST; i++) sum += shared->taken[i], shared->taken[i] = 0;
    return sum;
}

/* All jobs on so many threads. */
static int wrong(Shared *shared, int threads) {
    shared->wrong = 0;
    shared->pieces = 1000;
    team_run(&shared->team, threads, 1, work, shared);
    long done = taken(shared);
    if (shared->wrong || done != shared->pieces || shared->team.members != threads) {
        printf("%d threads: %d wrong sums, %ld pieces\n", threads, shared->wrong, done);
        return 1;
    }
    team_run(&shared->team, threads, 1, regroup, shared);
    if (shared->wrong) printf("%d threads: %d wrong sums while regrouping\n", threads, shared->wrong);
    for (shared->pieces = 1; shared->pieces < 100000; shared->pieces *= 7) {
        team_run(&shared->team, threads, 0, pieces, shared);
        if ((done = taken(shared)) != shared->pieces) {
            printf("%d threads: %ld of %ld pieces\n", threads, done, (long)shared->pieces);
            shared->wrong = 1;
        }
    }
    return shared->wrong;
}

/* Callers side by side: one has the crew, the others work alone. */
static void *caller(void *argument) {
    Shared *shared = argument;
    for (int run = 0; run < 300; run++) {
        shared->pieces = 1 + run % 50;
        team_run(&shared->team, 1 + run % MOST, run % 2, pieces, shared);
        if (taken(shared) != shared->pieces) shared->wrong = 1;
    }
    return NULL;
}

#define CALLERS 4

int main(void) {
    Shared *shared = calloc(CALLERS, sizeof *shared);
    pthread_t id[CALLERS];
    int status;
    for (int run = 0; run < 3; run++) {
        for (int threads = 1; threads <= MOST; threads++)
            if (wrong(shared, threads)) return 1;
        for (int job = 0; job < 12; job++) { /* some for jobs that they have no part in */
            if (job % 4 == run) usleep(5000); /* long enough for them to fall asleep */
            if (wrong(shared, 1 + (job * 5 + run) % MOST)) return 1;
        }
        if (run == 0) end_crew(), end_crew(); /* they are made anew */
    }
    for (int i = 0; i < CALLERS; i++) pthread_create(&id[i], NULL, caller, &shared[i]);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(id[i], NULL);
        if (shared[i].wrong) return puts("callers side by side: wrong"), 1;
    }
    if (fork() == 0) _exit(atomic_load(&crew->others) != 0 || wrong(shared, 3) || atomic_load(&crew->others) != 2);
    if (wait(&status) == -1 || status != 0) return puts("the child of a fork: wrong"), 1;
    if (wrong(shared, MOST)) return 1;
    end_crew();
    free(shared);
    puts("the team's barriers hold");
    return 0;
}

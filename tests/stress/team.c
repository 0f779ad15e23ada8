/* The team, its jobs and its barrier under ThreadSanitizer: plain data that nothing else protects.

   Every thread writes its own place of an array, a barrier passes, and every thread reads all of them,
   as the two phases of a training step do. A barrier that let one through early, or that did not order
   memory, is a data race (which the sanitizer reports) or a wrong sum. */
#include "team.h" /* first: it asks for _GNU_SOURCE */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MOST 8
#define ROUNDS 200

typedef struct {
    Team team;
    Seat seat[MOST];
    long place[MOST];
    long sum[MOST];
    int stop;
    long round;
    int64_t pieces;
    long taken[MOST];
    int wrong;
} Shared;

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
        team_barrier(&shared->team, thread);
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
        team_barrier(&shared->team, thread);
        if (!team_change(&shared->team, thread)) return;
        if (thread == 0)
            for (int i = 0; i < threads; i++) shared->wrong += shared->sum[i] != 0;
        round = shared->round;
    }
    if (thread == 0) team_over(&shared->team);
}

/* Both jobs on so many threads. */
static int wrong(Shared *shared, int threads) {
    long taken = 0;
    shared->wrong = 0;
    for (int i = 0; i < MOST; i++) shared->taken[i] = 0;
    team_run(&shared->team, threads, work, shared);
    for (int i = 0; i < MOST; i++) taken += shared->taken[i];
    if (shared->wrong || taken != shared->pieces || shared->team.members != threads) {
        printf("%d threads: %d wrong sums, %ld pieces\n", threads, shared->wrong, taken);
        return 1;
    }
    team_run(&shared->team, threads, regroup, shared);
    if (shared->wrong) printf("%d threads: %d wrong sums while regrouping\n", threads, shared->wrong);
    return shared->wrong;
}

int main(void) {
    Shared *shared = calloc(1, sizeof *shared);
    shared->team.seat = shared->seat;
    shared->pieces = 1000;
    for (int run = 0; run < 3; run++)
        for (int threads = 1; threads <= MOST; threads++)
            if (wrong(shared, threads)) return 1;
    for (int run = 0; run < 3; run++) { /* threads that stay, some for jobs that they have no part in */
        shared->team.kept = 1;
        for (int job = 0; job < 12; job++) {
            if (job % 4 == run) usleep(5000); /* long enough for them to fall asleep */
            if (wrong(shared, 1 + (job * 5 + run) % MOST)) return 1;
        }
        team_end(&shared->team);
        team_end(&shared->team);
    }
    free(shared);
    puts("the team's barriers hold");
    return 0;
}

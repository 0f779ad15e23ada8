# How many threads of a team share the steps of an epoch: as many as prove fastest while it runs.
#
# A barrier costs what other programs on the machine make it cost, which no model knows. So where a step
# takes less than milliseconds, thread 0 times windows of steps, now and then lets half as many threads, or
# twice as many, do a window, and stays with what is faster, in the next calls too. The first steps after a
# change are not counted: each thread's caches hold what its share was before. The results do not depend on it.

cdef enum:
    WARM_UP = 6          # steps not counted after a change
    LEAST_WINDOW = 12    # steps
    FIRST_PATIENCE = 2   # windows until the next trial; doubled after each that failed
    LAST_PATIENCE = 256


ctypedef struct Pace:
    int threads             # what was found; 0: nothing yet
    int trial               # threads in the trial that is on; 0: none is
    bint up                 # the next trial is with more threads
    int64_t window          # steps of a window, which may go on in the next call; 0: no trials here
    int64_t counted         # steps of this window so far
    double seconds          # that they took
    int64_t warm_up         # steps that are not counted yet
    double start            # of the step; 0: it is not counted, as it waits for threads to start
    double usual            # seconds of the last window that was no trial
    int64_t patience, windows # windows from a trial to the next, and since the last


cdef void end_trial(Pace* pace, int64_t patience) noexcept nogil:
    pace.trial = 0
    pace.windows = 0
    pace.patience = min(patience, <int64_t> LAST_PATIENCE)


cdef int start_pace(Pace* pace, const Costs* costs, int64_t steps, int64_t flops, int most) noexcept nogil:
    """For an epoch of so many steps, of so many FLOPs each: how many threads it takes, of `most`."""
    pace.start = 0
    pace.window = 0
    if most == 1 or flops >= 8 * costs.flops_per_window:  # no barrier matters beside such a step
        return most
    pace.window = max(<int64_t> LEAST_WINDOW, costs.flops_per_window // flops)
    if pace.threads == 0:
        pace.threads = most
        pace.patience = FIRST_PATIENCE
    if pace.trial > 0 or pace.windows + (pace.counted + steps) // pace.window > pace.patience:
        return most  # there will be a trial
    return min(pace.threads, most)


cdef void set_pace(Pace* pace, const Costs* costs, Team* team) noexcept nogil:
    """After each step, on thread 0: team.wanted for the next."""
    cdef double now
    if pace.window == 0:
        return
    now = seconds_now()
    if pace.start == 0:
        pace.start = now
        team.wanted = min(pace.trial if pace.trial > 0 else pace.threads, team.members)
        if team.wanted != team.threads:
            pace.warm_up = WARM_UP
        return
    if pace.warm_up > 0:
        pace.warm_up -= 1
        pace.start = now
        return
    pace.seconds += now - pace.start
    pace.start = now
    pace.counted += 1
    if pace.trial > 0:  # one that takes longer already need not go on
        if pace.seconds <= pace.usual and pace.counted < pace.window:
            return
        if 100 * pace.seconds < costs.percent_faster * pace.usual:
            pace.usual = pace.seconds
            pace.threads = team.threads
            end_trial(pace, FIRST_PATIENCE)
        else:
            pace.up = not pace.up
            end_trial(pace, 2 * pace.patience)
        team.wanted = pace.threads
    else:
        if pace.counted < pace.window:
            return
        if 100 * pace.seconds > costs.percent_slower * pace.usual:  # something else has come to run here
            pace.patience = min(pace.patience, <int64_t> FIRST_PATIENCE)
        pace.usual = pace.seconds
        pace.windows += 1
        if pace.windows > pace.patience and team.members > 1:
            if pace.up and team.threads < team.members or team.threads == 1:
                pace.trial = min(2 * team.threads, team.members)
            else:
                pace.trial = (team.threads + 1) // 2
            team.wanted = pace.trial
    pace.counted = 0
    pace.seconds = 0
    if team.wanted != team.threads:
        pace.warm_up = WARM_UP

# How many threads of a team share the steps of an epoch: as many as prove fastest while it runs.
#
# A barrier costs what other programs on the machine make it cost, which no model knows. So where a step
# takes less than milliseconds, windows of steps are timed, now and then half as many threads, or
# twice as many, do a window, and what is faster stays, in the next calls too. The first steps after a
# change are not counted: each thread's caches hold what its share was before. The results do not depend on it.
#
# Thread 0 times each step of an epoch but the first, which waits for the others to come. A call of few steps is
# timed as a whole: what it waits for is then most of what threads cost it. So is a call of Engine.gradient, as one step.

cdef enum:
    WARM_UP = 6          # steps not counted after a change
    LEAST_WINDOW = 12    # steps
    FIRST_PATIENCE = 2   # windows until the next trial; doubled after each that failed
    LAST_PATIENCE = 256
    FEW_STEPS = 4        # of a call that is timed as a whole


ctypedef struct Pace:
    int threads             # what was found; 0: nothing yet
    int trial               # threads in the trial that is on; 0: none is
    bint up                 # the next trial is with more threads
    int64_t window          # steps of a window, which may go on in the next call; 0: no trials here
    int64_t counted         # steps of this window so far
    double seconds          # that they took
    int64_t warm_up         # steps that are not counted yet
    bint whole              # this call is timed as a whole
    double start            # of the step, or the call; 0: it is not counted, as it waits for threads to start
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
    pace.whole = steps <= FEW_STEPS
    if most == 1 or flops >= 8 * costs.flops_per_window:  # no barrier matters beside such a step
        return most
    pace.window = max(<int64_t> LEAST_WINDOW, costs.flops_per_window // flops)
    if pace.threads == 0:
        pace.threads = most
        pace.patience = FIRST_PATIENCE
    if pace.whole:
        pace.start = seconds_now()
        return min(pace.trial if pace.trial > 0 else pace.threads, most)
    if pace.trial > 0 or pace.windows + (pace.counted + steps) // pace.window > pace.patience:
        return most  # there will be a trial
    return min(pace.threads, most)


cdef int count_steps(Pace* pace, const Costs* costs, int threads, int most, int64_t steps, double seconds) noexcept nogil:
    """So many steps on so many threads took so long: how many threads are to do the next, of `most`."""
    cdef int wanted = threads
    if pace.warm_up > 0:
        pace.warm_up -= steps
        return threads
    pace.seconds += seconds
    pace.counted += steps
    if pace.trial > 0:  # one that takes longer already need not go on
        if pace.seconds <= pace.usual and pace.counted < pace.window:
            return threads
        if 100 * pace.seconds * pace.window < costs.percent_faster * pace.usual * pace.counted:
            pace.usual = pace.seconds
            pace.threads = threads
            end_trial(pace, FIRST_PATIENCE)
        else:
            pace.up = not pace.up
            end_trial(pace, 2 * pace.patience)
        wanted = pace.threads
    else:
        if pace.counted < pace.window:
            return threads
        if 100 * pace.seconds > costs.percent_slower * pace.usual:  # something else has come to run here
            pace.patience = min(pace.patience, <int64_t> FIRST_PATIENCE)
        pace.usual = pace.seconds * pace.window / pace.counted
        pace.windows += 1
        if pace.windows > pace.patience and most > 1:
            if pace.up and threads < most or threads == 1:
                pace.trial = min(2 * threads, most)
            else:
                pace.trial = (threads + 1) // 2
            wanted = pace.trial
    pace.counted = 0
    pace.seconds = 0
    if wanted != threads:
        pace.warm_up = WARM_UP
    return wanted


cdef void set_pace(Pace* pace, const Costs* costs, Team* team) noexcept nogil:
    """After each step, on thread 0: team.wanted for the next."""
    cdef double now, start = pace.start
    if pace.window == 0 or pace.whole:
        return
    now = pace.start = seconds_now()
    if start == 0:
        team.wanted = min(pace.trial if pace.trial > 0 else pace.threads, team.members)
        if team.wanted != team.threads:
            pace.warm_up = WARM_UP
    else:
        team.wanted = count_steps(pace, costs, team.threads, team.members, 1, now - start)


cdef void end_pace(Pace* pace, const Costs* costs, const Team* team, int threads, int most, int64_t steps) noexcept nogil:
    """After a call of so many steps that was for so many threads; fewer came where the team had another job."""
    if pace.window > 0 and pace.whole and team.members == threads:
        count_steps(pace, costs, threads, most, steps, seconds_now() - pace.start)

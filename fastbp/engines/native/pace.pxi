# How many threads of a team share the steps of an epoch: as many as prove fastest while it runs.
#
# A barrier costs what other programs on the machine make it cost, which no model knows. So where a step
# takes less than milliseconds, thread 0 times windows of steps, now and then lets half as many threads, or
# twice as many, do a window, and stays with what is faster, also in the next call. The results do not
# depend on it.

cdef enum:
    FIRST_PATIENCE = 2   # windows until the next trial; doubled after each that failed
    LAST_PATIENCE = 1024

cdef int64_t FLOPS_PER_WINDOW = <int64_t> HALF_SPEED * 40_000_000 * 4 // <int64_t> sizeof(real)


ctypedef struct Pace:
    int threads             # what was found; 0: nothing yet
    int64_t window          # steps of a window; 0: the number of threads stays
    int64_t counted         # steps of this window so far
    double start            # of this window; 0: there has been none
    double usual            # seconds of the last window that was no trial
    int64_t patience, windows # windows from a trial to the next, and since the last
    int before              # threads outside the trial; 0: no trial is on
    bint up                 # the next trial is with more threads


cdef void end_trial(Pace* pace, int64_t patience) noexcept nogil:
    pace.before = 0
    pace.windows = 0
    pace.patience = min(patience, <int64_t> LAST_PATIENCE)


cdef int start_pace(Pace* pace, int64_t steps, int64_t flops, int most) noexcept nogil:
    """For an epoch of so many steps, of so many FLOPs each: how many threads to start, of `most`."""
    cdef int64_t window = max(<int64_t> 4, FLOPS_PER_WINDOW // flops)
    pace.window = 0
    if most == 1 or flops >= 8 * FLOPS_PER_WINDOW or steps <= window:
        return most
    pace.window = window
    pace.counted = 0
    pace.start = 0
    if pace.before > 0:  # the last call ended in a trial
        end_trial(pace, 2 * pace.patience)
    if pace.threads == 0:
        pace.threads = most
        pace.patience = FIRST_PATIENCE
    return 1 if pace.threads == 1 and pace.windows + steps // window <= pace.patience else most


cdef void set_pace(Pace* pace, Team* team) noexcept nogil:
    """After each step, on thread 0: team.wanted for the next."""
    cdef double seconds
    if pace.window == 0:
        return
    if pace.start == 0:  # the first step waited for the threads to start
        pace.start = seconds_now()
        if pace.threads > 1:
            team.wanted = min(pace.threads, team.members)
        elif team.members > 1 and pace.windows > pace.patience:
            pace.before = 1
        else:
            team.wanted = 1
        return
    pace.counted += 1
    if pace.counted == 0:  # the first step of a trial waited for threads to wake
        pace.start = seconds_now()
    if pace.counted <= 0 or (pace.counted < pace.window and pace.before == 0):
        return
    seconds = seconds_now() - pace.start
    if pace.before > 0:  # a trial; one that takes longer already need not go on
        if seconds <= pace.usual and pace.counted < pace.window:
            return
        if seconds < 0.95 * pace.usual:
            pace.usual = seconds
            pace.threads = team.threads
            end_trial(pace, FIRST_PATIENCE)
        else:
            team.wanted = pace.before
            pace.up = not pace.up
            end_trial(pace, 2 * pace.patience)
    else:
        if seconds > 1.5 * pace.usual:  # something else has come to run here
            pace.patience = min(pace.patience, <int64_t> FIRST_PATIENCE)
        pace.usual = seconds
        pace.windows += 1
        if pace.windows > pace.patience and team.members > 1:
            pace.before = team.threads
            if pace.up and team.threads < team.members or team.threads == 1:
                team.wanted = min(2 * team.threads, team.members)
            else:
                team.wanted = (team.threads + 1) // 2
    pace.counted = -1 if pace.before > 0 else 0
    pace.start = seconds_now()

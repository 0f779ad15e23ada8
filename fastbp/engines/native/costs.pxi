# What things cost on today's machines: the numbers by which a step is cut among threads and memory is fetched, and a
# switch for each mode that a step may be in. A number decides how fast results come, never which.
#
# Engine takes others for a test or a measurement (benchmarks/modes.py). The numbers were found by trying some, on
# machines of two cores with L2 caches of 1 and 2 MB; the comments say what they have to do with.


ctypedef struct Costs:
    int64_t flops_per_thread        # of a step: a thread is worth its barriers for so much work
    int64_t flops_per_wait          # of a call, for each microsecond that a thread takes to come: it is worth that
    int64_t flops_per_window        # work that is timed to find how many threads are fastest (pace.pxi)
    int64_t percent_faster          # of the usual time: a trial that takes less has won
    int64_t percent_slower          # of the usual time: a window that takes more shows that things have changed
    int64_t rows_to_split           # for each thread, or phase 1 is cut by columns; 0: it never is
    int64_t rows_to_split_unevenly  # the same where columns do not divide as rows do
    int64_t percent_uneven          # of an even share of panels, the widest that still counts as even
    int64_t bytes_to_split          # of all weights: with no more phase 1 is cut by rows, however few
    int64_t bytes_of_columns        # a thread's data, up to which a step is cut so that two barriers are enough
    int64_t bytes_apart             # between threads' own memory
    int64_t bytes_near              # of a layer's weights; those of more are fetched ahead
    int64_t rows_far                # of a block, from which they are; 0: never
    int64_t threads_far             # that share a step, up to which they are
    int64_t bytes_fetched           # of the next minibatch's rows by a thread during phase 2; 0: none
    int64_t reals_gathered          # fetched before they are gathered; 0: none
    int64_t flops_unchecked         # between two looks at the clock for whether to look for signals
    int64_t signal_microseconds     # between two looks for signals
    int64_t flops_taken             # of a piece that another thread may take over, at least; 0: only whole blocks of rows are
    int64_t rows_taken              # of such a piece of phase 1, at least
    int64_t bytes_taken             # of all weights, up to which there are such small pieces
    int64_t online                  # modes, each 1 where it may be taken (cut.pxi), 0: never
    int64_t by_parts
    int64_t two_barriers
    int64_t own_inputs


def default_costs():
    """The costs, by name, that an Engine goes by but for those that it is given."""
    # A FLOP of float64 takes twice the time of one of float32, one of bf16 less.
    million = <int64_t> HALF_SPEED * 4_000_000 // <int64_t> sizeof(real)
    return {
        # 5 µs of a core that does 40 GFLOP/s, a few times what the barriers of a step take.
        "flops_per_thread": million // 5,
        # One and a half microseconds of such a core: a second thread then halves what takes three times its wait.
        "flops_per_wait": million * 6 // 100,
        "flops_per_window": 40 * million,
        # A trial has to win by more than windows of the same work differ. What comes to run on one of the CPUs takes
        # about half of it, and a window then twice as long: halfway there something has changed.
        "percent_faster": 95,
        "percent_slower": 150,
        # By columns activations go from CPU to CPU, by rows weights, which can take longer than the work on them.
        "rows_to_split": 80,
        # There the busiest thread has much more than its share, a quarter and up, and the others wait for it in each
        # layer; so columns pay only with fewer rows, a third of them.
        "rows_to_split_unevenly": 80 // 3,
        "percent_uneven": 125,
        # As much as lies close to every thread at all times; bf16 operands are written by whoever has the rows.
        "bytes_to_split": 0 if HALF else 65_536,
        # What a core's L2 cache holds, or half of it.
        "bytes_of_columns": 1 << 20,
        # Prefetchers run on past the end of what they see read, and what they take out of another CPU's cache that CPU
        # has to fetch back.
        "bytes_apart": 1 << 16,
        "bytes_near": 1 << 20,
        # The work on fewer rows is over before what is fetched arrives. Nets of wide layers gained 4 to 14 % with AVX-512,
        # and 4 to 18 % with AVX2 (Zen 3) on one thread; on two they lost up to 8 % there.
        "rows_far": 64,
        "threads_far": TEAM_MOST if LANES * sizeof(real) == 64 else 1,
        # An eighth of an L2 cache, which leaves room for the rest.
        "bytes_fetched": 1 << 17,
        # 4 KB, 64 lines: gathering them takes about as long as memory does.
        "reals_gathered": 1024,
        # Half a millisecond of such a core. Ctrl-C is felt at once where it takes 20 ms.
        "flops_unchecked": 20_000_000,
        "signal_microseconds": 20_000,
        # A microsecond or two, beside which it costs nothing to say who has the piece.
        "flops_taken": 60_000,
        # Each piece reads all weights, which must not take long beside the work on its rows, wherever they lie.
        "rows_taken": 36,
        "bytes_taken": 1 << 22,
        "online": 1,
        "by_parts": 1,
        "two_barriers": 1,
        "own_inputs": 1,
    }


cdef Costs costs_with(changes) except *:
    """The default costs but for these, by name; None: none."""
    costs = default_costs()
    if unknown := set(changes or ()) - set(costs):
        raise ValueError(f"unknown costs {sorted(unknown)}; there are {', '.join(costs)}")
    return costs | (changes or {})

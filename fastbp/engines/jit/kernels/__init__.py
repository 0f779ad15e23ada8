"""What Numba compiles: importing any of these modules imports Numba.

Reading order: intrinsics.py (what Numba has no word for), tile.py (the micro-kernel), vecmath.py,
activations.py, losses.py, optimizers.py, passes.py (the two phases of a step), work.py (what the
threads of a call run), code.py (from functions to object code); dual.py and user.py for functions
written by the user.
"""

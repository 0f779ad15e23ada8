"""Benchmarks of fastbp beside the libraries it stands in for: time, memory, and the CPU's limits.

`python -m benchmarks report` compares everything and writes a page, `python -m benchmarks compare REV`
compares two revisions of fastbp, and `pytest benchmarks/` is a quick selection under pytest-benchmark.
Every contender runs in a process of its own (`worker.py`), so that no library's threads, settings or
memory weigh on another's, and has to prove what it computes (`equivalence.py`) before it is timed.
"""

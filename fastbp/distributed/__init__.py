"""One network on many machines: ranks of MPI share each step, and the bits are those of one process.

`MLP.fit(X, y, comm=MPI.COMM_WORLD)` is the way in. `ranks` is how the processes agree, `start` what
they agree on before they begin, `epochs` how they share the steps of an epoch, `cost` what that takes on
which network. MPI is reached by mpi4py, imported by whoever has a communicator.
"""

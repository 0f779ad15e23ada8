"""Ranks in network namespaces: what `fastbp.distributed.cost` predicts of a step beside what it takes.

Usage, as root, with mpi4py and MPICH: python network.py [RANKS] [RATE] [DELAY]

RANKS namespaces on a bridge stand for as many machines, and speak TCP with each other. RATE ("1gbit")
and DELAY ("50us") limit them, by tc's tbf and netem; "none" for none. Latency and bandwidth are measured
by messages. Have a core for each rank.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NETS = (
    ((64, 64, 10), 256),
    ((784, 128, 10), 256),
    ((256, 256, 256, 10), 1024),
    ((784, 512, 512, 10), 1024),
    ((1024, 1024, 1024, 10), 512),
)
LAUNCH = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
host=$1; shift
exec ip netns exec fastbp$((${host##*.} - 1)) bash -c "$*"
"""


def tell(*command: object) -> None:
    subprocess.run([str(c) for c in command], check=True)


def clean(ranks: int) -> None:
    for i in range(ranks):
        for command in (f"ip link del fastbpv{i}", f"ip netns del fastbp{i}"):
            subprocess.run(command.split(), stderr=subprocess.DEVNULL, check=False)
    subprocess.run(["ip", "link", "del", "fastbp"], stderr=subprocess.DEVNULL, check=False)


def build(ranks: int, rate: str, delay: str) -> None:
    tell(*["ip", "link", "add", "fastbp", "type", "bridge"])
    tell(*["ip", "addr", "add", "10.91.0.254/24", "dev", "fastbp"])
    tell(*["ip", "link", "set", "fastbp", "up"])
    for i in range(ranks):
        inside = ("ip", "netns", "exec", f"fastbp{i}")
        tell("ip", "netns", "add", f"fastbp{i}")
        tell(*f"ip link add fastbpv{i} type veth peer name eth0 netns fastbp{i}".split())
        tell(*f"ip link set fastbpv{i} master fastbp up".split())
        tell(*inside, *f"ip addr add 10.91.0.{i + 1}/24 dev eth0".split())
        for device in ("eth0", "lo"):
            tell(*inside, "ip", "link", "set", device, "up")
        if delay != "none":
            limit = [] if rate == "none" else ["rate", rate]
            qdisc = f"tc qdisc add dev eth0 root netem delay {delay} limit 100000"
            tell(*inside, *qdisc.split(), *limit)
        elif rate != "none":
            qdisc = f"tc qdisc add dev eth0 root tbf rate {rate} burst 16kb latency 100ms"
            tell(*inside, *qdisc.split())


def main(ranks: int, rate: str, delay: str) -> None:
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    clean(ranks)
    with tempfile.TemporaryDirectory() as folder:
        launch = Path(folder) / "launch"
        launch.write_text(LAUNCH)
        launch.chmod(launch.stat().st_mode | stat.S_IXUSR)
        try:
            build(ranks, rate, delay)
            hosts = ",".join(f"10.91.0.{i + 1}" for i in range(ranks))
            over_tcp = ["-genv", "MPIR_CVAR_NOLOCAL", "1", "-genv", "UCX_TLS", "tcp,self"]
            command = [mpiexec, "-launcher", "ssh", "-launcher-exec", launch, "-hosts", hosts]
            command += ["-localhost", "10.91.0.254", *over_tcp, "-n", ranks]
            tell("timeout", 600, *command, sys.executable, __file__, "rank")
        finally:
            clean(ranks)


# ---- in the namespaces ----------------------------------------------------------------------


def median_seconds(comm: object, size: int, times: int) -> float:
    """Of an Allgather of so many bytes."""
    from mpi4py import MPI

    message = np.zeros(max(1, size // comm.size) * comm.size, np.uint8)
    found = []
    for _ in range(times):
        comm.Barrier()
        start = time.perf_counter()
        comm.Allgather(MPI.IN_PLACE, message)
        found.append(time.perf_counter() - start)
    return float(np.median(comm.allgather(float(np.median(found)))))


def as_rank() -> None:
    from mpi4py import MPI

    from fastbp.distributed import epochs
    from fastbp.distributed.cost import Network, exchange_seconds, measure, plan_for
    from fastbp.distributed.ranks import join
    from fastbp.engines import create

    comm = MPI.COMM_WORLD
    ranks = join(comm)
    exchange, waited = ranks.exchange, [0.0]

    def timed(message: np.ndarray, starts: np.ndarray) -> None:
        start = time.perf_counter()
        exchange(message, starts)
        waited[0] += time.perf_counter() - start

    def timed_sums(*given: np.ndarray) -> None:
        start = time.perf_counter()
        exchange_sums(*given)
        waited[0] += time.perf_counter() - start

    ranks.exchange, exchange_sums, ranks.exchange_sums = timed, ranks.exchange_sums, timed_sums
    P = comm.size
    latency = median_seconds(comm, 1024, 50) / np.ceil(np.log2(P))
    large = 8 << 20
    bandwidth = large * (P - 1) / P / (median_seconds(comm, large, 10) - (P - 1) * latency)
    network = Network(latency, bandwidth)
    if comm.rank == 0:
        print(f"{P} ranks: {latency * 1e6:.0f} µs, {bandwidth / 1e9:.2f} GB/s", flush=True)
        for size in (1 << 14, 1 << 17, 1 << 20):
            print(f"  {size:9,} bytes: ", end="")
            print(f"predicted {exchange_seconds(size, P, network) * 1e6:6.0f} µs, ", end="")
            print(f"took {median_seconds(comm, size, 20) * 1e6:6.0f} µs", flush=True)
    else:
        for size in (1 << 14, 1 << 17, 1 << 20):
            median_seconds(comm, size, 20)
    for layers, batch in NETS:
        plan = plan_for(layers, batch, "adam", 1)
        comm.Barrier()  # all at once: they share the caches and the memory
        step = comm.bcast(measure(plan, P, network, 1.0))
        engine = create(plan)
        rng = np.random.default_rng(0)
        engine.set_parameters(
            [p for s in plan.stages for p in s.first_values("auto", plan.dtype, rng)]
        )
        X = rng.standard_normal((2 * batch, layers[0])).astype("f")
        data = X, rng.integers(0, layers[-1], len(X)), None
        steps = int(np.clip(2.0 / step.seconds, 10, 500))
        found = []
        for _ in range(3):
            order = rng.integers(0, len(X), steps * batch)
            rates = np.full(steps, 1e-4)
            comm.Barrier()
            waited[0] = 0.0
            epoch = epochs.run_epoch(ranks, engine, data, order, rates, None)
            found.append(epoch.seconds / steps)
        took = float(np.median(comm.allgather(float(np.median(found)))))
        if comm.rank == 0:
            name = f"{'-'.join(map(str, layers))}, batch {batch}"
            print(
                f"{name:30} predicted {step.seconds * 1e6:7.0f} µs "
                f"({step.compute * 1e6:.0f} of arithmetic), took {took * 1e6:7.0f} µs "
                f"({(epoch.seconds - waited[0]) / steps * 1e6:.0f}): "
                f"{step.seconds / took - 1:+.0%}",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:] == ["rank"]:
        as_rank()
    else:
        given = sys.argv[1:] + ["2", "none", "none"][len(sys.argv) - 1 :]
        main(int(given[0]), given[1], given[2])

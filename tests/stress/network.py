"""Ranks in network namespaces: what `fastbp.distributed.cost` predicts of a step beside what it takes.

Usage, as root, with mpi4py and MPICH: python network.py [RANKS] [RATE] [DELAY]

RANKS namespaces stand for as many machines, and speak TCP with each other: on a bridge, with RATE
("1gbit", or "none") as a limit by tc's tbf; or, with a DELAY in microseconds ("none" for none) and RATE
in bits a second (1e9), through a relay of this program's own, as not every kernel has netem. Latency and
bandwidth are measured by messages. Have a core for each rank.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import multiprocessing
import os
import select
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fastbp.distributed.ranks import Ranks

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


def connect(ranks: int) -> list[int]:
    """Devices whose packets a program carries, one in each namespace and the last here; their files."""
    files = []
    for i in range(ranks + 1):
        file = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(
            file, 0x400454CA, struct.pack("16sH", b"fastbpt%d" % i, 0x1001)
        )  # TUN, no header
        files.append(file)
        inside: list[str] = []
        if i < ranks:
            tell("ip", "netns", "add", f"fastbp{i}")
            tell(*f"ip link set fastbpt{i} netns fastbp{i}".split())
            inside = ["ip", "netns", "exec", f"fastbp{i}"]
            tell(*inside, *["ip", "link", "set", "lo", "up"])
        number = i + 1 if i < ranks else 254
        tell(*inside, *f"ip addr add 10.91.0.{number}/24 dev fastbpt{i}".split())
        tell(*inside, *f"ip link set fastbpt{i} mtu 16000 txqueuelen 1000 up".split())
    return files


def carry(files: list[int], rate: float, delay: float) -> None:
    """Packets from file to file, each so many seconds after it has gone out, one after the other."""
    os.nice(-20)
    ranks = len(files) - 1
    free = [0.0] * ranks  # when each sender's wire is
    waiting: list[tuple[float, int, int, bytes]] = []
    count = itertools.count()
    while True:
        now = time.perf_counter()
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            os.write(files[to], packet)
        left = max(0.0, waiting[0][0] - time.perf_counter()) if waiting else None
        for file in select.select(files, [], [], left)[0]:
            try:
                packet = os.read(file, 16384)
            except OSError:  # its namespace is gone: the end
                return
            if packet[0] >> 4 != 4:  # IPv6 asks for neighbours
                continue
            source, to = files.index(file), packet[19] - 1
            to = to if to < ranks else ranks
            due = time.perf_counter()
            if ranks not in (source, to):  # what starts the ranks is not held up
                free[source] = max(free[source], due) + 8 * len(packet) / rate
                due = free[source] + delay
            heapq.heappush(waiting, (due, next(count), to, packet))


def build(ranks: int, rate: str) -> None:
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
        if rate != "none":
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
            if delay == "none":
                build(ranks, rate)
            else:
                given = (connect(ranks), float(rate), 1e-6 * float(delay))
                multiprocessing.get_context("fork").Process(
                    target=carry, args=given, daemon=True
                ).start()
            hosts = ",".join(f"10.91.0.{i + 1}" for i in range(ranks))
            over_tcp = ["-genv", "MPIR_CVAR_NOLOCAL", "1", "-genv", "UCX_TLS", "tcp,self"]
            command = [mpiexec, "-launcher", "ssh", "-launcher-exec", launch, "-hosts", hosts]
            command += ["-localhost", "10.91.0.254", *over_tcp, "-n", ranks]
            tell("timeout", 600, *command, sys.executable, __file__, "rank")
        finally:
            clean(ranks)


# ---- in the namespaces ----------------------------------------------------------------------


def median_seconds(ranks: Ranks, size: int, times: int) -> float:
    """Of an exchange of so many bytes."""
    comm = ranks.comm
    starts = np.arange(comm.size + 1) * size // comm.size
    exchange = ranks.to_all(np.zeros(size, np.uint8), starts)
    found = []
    for _ in range(times):
        comm.Barrier()
        start = time.perf_counter()
        exchange()
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
    P = comm.size
    large = 8 << 20
    latency = median_seconds(ranks, 1024, 50)
    bandwidth = large * (P - 1) / P / (median_seconds(ranks, large, 10) - latency)
    network = Network(latency, bandwidth)
    sizes = (1 << 14, 1 << 17, 1 << 20)
    took = [median_seconds(ranks, size, 20) for size in sizes]
    if comm.rank == 0:
        print(f"{P} ranks: {latency * 1e6:.0f} µs, {bandwidth / 1e9:.2f} GB/s", flush=True)
        for size, seconds in zip(sizes, took, strict=True):
            print(
                f"  {size:9,} bytes: predicted {exchange_seconds(size, P, network) * 1e6:6.0f} µs, "
                f"took {seconds * 1e6:6.0f} µs",
                flush=True,
            )
    waited = [0.0]

    def timed(prepare: Any) -> Any:
        def prepared(*given: np.ndarray) -> Any:
            exchange = prepare(*given)

            def run() -> None:
                start = time.perf_counter()
                exchange()
                waited[0] += time.perf_counter() - start

            return run

        return prepared

    ranks.to_all, ranks.to_owners = timed(ranks.to_all), timed(ranks.to_owners)
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

"""The number of threads: what was set, the environment, the machine; in that order."""

import os

import pytest

import fastbp
from fastbp import threads


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.delenv("FASTBP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    fastbp.set_num_threads(None)


def test_order_of_precedence(monkeypatch):
    machine = fastbp.get_num_threads()
    assert machine >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads.choose() == (5, "environment variable OMP_NUM_THREADS")
    monkeypatch.setenv("FASTBP_NUM_THREADS", " 3 ")
    assert threads.choose() == (3, "environment variable FASTBP_NUM_THREADS")
    fastbp.set_num_threads(2)
    assert threads.choose() == (2, "set_num_threads")
    fastbp.set_num_threads(None)
    assert fastbp.get_num_threads() == 3


def test_openmp_list_and_empty_value(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4, 2")
    monkeypatch.setenv("FASTBP_NUM_THREADS", "")
    assert fastbp.get_num_threads() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert fastbp.get_num_threads() == 1
    fastbp.set_num_threads(1)
    assert threads.choose() == (1, "set_num_threads")


@pytest.mark.parametrize("name", ["FASTBP_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "-2", "many", "1.5", "²"])
def test_bad_environment_names_the_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name):
        fastbp.get_num_threads()


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_bad_set_leaves_the_setting(value):
    fastbp.set_num_threads(3)
    with pytest.raises((TypeError, ValueError), match="threads"):
        fastbp.set_num_threads(value)
    assert fastbp.get_num_threads() == 3


def test_quota_rounds_up_and_affinity_caps(monkeypatch):
    monkeypatch.setattr(threads, "_affinity", lambda: 8)
    for quota, expected in [(None, 8), (0.5, 1), (1.5, 2), (2.0, 2), (64.0, 8)]:
        monkeypatch.setattr(threads, "_container_quota", lambda q=quota: q)
        assert fastbp.get_num_threads() == expected
    monkeypatch.setattr(threads, "_container_quota", lambda: 8.0)
    assert threads.choose() == (8, "CPUs available to this process")


def test_without_affinity_every_cpu_counts(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(threads, "_container_quota", lambda: None)
    for cpus, expected in [(3, 3), (None, 1)]:
        monkeypatch.setattr(os, "cpu_count", lambda n=cpus: n)
        assert fastbp.get_num_threads() == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU affinity here")
def test_affinity_is_honoured(monkeypatch):
    monkeypatch.setattr(threads, "_container_quota", lambda: None)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert fastbp.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_cgroup_version_2_smallest_limit_of_all_ancestors(tmp_path):
    membership, root = tmp_path / "cgroup", tmp_path / "fs"
    write(membership, "0::/outer/inner\n")
    write(root / "outer/inner/cpu.max", "max 100000\n")
    assert threads.cgroup_quota(membership, root) is None
    write(root / "outer/cpu.max", "150000 100000\n")
    assert threads.cgroup_quota(membership, root) == 1.5
    write(root / "outer/inner/cpu.max", "300000 100000\n")
    assert threads.cgroup_quota(membership, root) == 1.5


def test_cgroup_version_1(tmp_path):
    membership, root = tmp_path / "cgroup", tmp_path / "fs"
    write(membership, "5:memory:/job\n4:cpu,cpuacct:/job\n0::/\n")
    group = root / "cpu,cpuacct" / "job"
    write(group / "cpu.cfs_period_us", "100000\n")
    write(group / "cpu.cfs_quota_us", "-1\n")
    assert threads.cgroup_quota(membership, root) is None
    write(group / "cpu.cfs_quota_us", "250000\n")
    assert threads.cgroup_quota(membership, root) == 2.5
    write(group / "cpu.cfs_quota_us", "50000\n")
    assert threads.cgroup_quota(membership, root) == 0.5
    write(group / "cpu.cfs_quota_us", "0\n")
    assert threads.cgroup_quota(membership, root) is None


def test_cgroup_inside_a_container_whose_path_is_not_mounted(tmp_path):
    membership, root = tmp_path / "cgroup", tmp_path / "fs"
    write(membership, "0::/docker/0123\n")
    write(root / "cpu.max", "200000 100000\n")
    assert threads.cgroup_quota(membership, root) == 2.0


def test_no_cgroups(tmp_path):
    assert threads.cgroup_quota(tmp_path / "none", tmp_path) is None


def test_show_config_tells_what_and_why(capsys):
    fastbp.set_num_threads(2)
    fastbp.show_config()
    printed = capsys.readouterr().out
    assert fastbp.__version__ in printed
    assert "2 (set_num_threads)" in printed
    assert "engine" in printed

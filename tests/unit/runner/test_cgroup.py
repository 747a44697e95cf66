"""What a container is allowed, as cgroup v1 and v2 say it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobrelay_runner.usage import cgroup
from jobrelay_runner.usage.cgroup import Cgroup, usable_cpus


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def _find(tmp_path: Path, controller: str, lines: str) -> Cgroup:
    (tmp_path / "cgroup").write_text(lines)
    return Cgroup.find(controller, tmp_path / "cgroup", tmp_path / "mount")


def test_version_2_in_a_container(tmp_path: Path) -> None:
    _write(tmp_path / "mount", memory__max="2147483648", memory__peak="834666496", cpu__max="150000 100000")
    found = _find(tmp_path, "memory", "0::/\n")

    assert found.memory_limit_bytes() == 2 * 1024**3
    assert found.memory_peak_bytes() == 834666496
    assert found.cpu_quota() == 1.5


def test_version_2_without_limits(tmp_path: Path) -> None:
    _write(tmp_path / "mount", memory__max="max", cpu__max="max 100000")
    found = _find(tmp_path, "memory", "0::/\n")

    assert (found.memory_limit_bytes(), found.memory_peak_bytes(), found.cpu_quota()) == (None, None, None)


def test_the_tightest_limit_of_those_above_counts(tmp_path: Path) -> None:
    _write(tmp_path / "mount" / "pod", memory__max="1000", cpu__max="100000 100000")
    _write(
        tmp_path / "mount" / "pod" / "container",
        memory__max="max",
        memory__peak="7",
        cpu__max="400000 100000",
    )
    found = _find(tmp_path, "memory", "0::/pod/container\n")

    assert (found.memory_limit_bytes(), found.memory_peak_bytes(), found.cpu_quota()) == (1000, 7, 1)


def test_version_1(tmp_path: Path) -> None:
    lines = "12:memory:/docker/abc\n5:cpu,cpuacct:/docker/abc\n0::/system.slice\n"
    _write(
        tmp_path / "mount" / "memory", memory__limit_in_bytes="1073741824", memory__max_usage_in_bytes="5000"
    )
    _write(tmp_path / "mount" / "cpu", cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")

    # The container sees its own cgroup at the mount, under whatever path the host gave it.
    assert _find(tmp_path, "memory", lines).memory_limit_bytes() == 1024**3
    assert _find(tmp_path, "memory", lines).memory_peak_bytes() == 5000
    assert _find(tmp_path, "cpu", lines).cpu_quota() == 2.5


def test_version_1_without_limits(tmp_path: Path) -> None:
    _write(tmp_path / "mount" / "memory", memory__limit_in_bytes="9223372036854771712")
    _write(tmp_path / "mount" / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")

    assert _find(tmp_path, "memory", "12:memory:/\n").memory_limit_bytes() is None
    assert _find(tmp_path, "cpu", "5:cpu,cpuacct:/\n").cpu_quota() is None


def test_without_cgroups_nothing_is_known(tmp_path: Path) -> None:
    found = Cgroup.find("memory", tmp_path / "absent", tmp_path)

    assert (found.memory_limit_bytes(), found.memory_peak_bytes(), found.cpu_quota()) == (None, None, None)
    assert not found.is_of_this_process_alone()


@pytest.mark.parametrize(("processes", "alone"), [("{pid}", True), ("1\n{pid}", False), ("1", False)])
def test_a_cgroup_is_ours_if_nobody_else_is_in_it(tmp_path: Path, processes: str, alone: bool) -> None:
    _write(tmp_path / "mount", cgroup__procs=processes.format(pid=os.getpid()))

    assert _find(tmp_path, "memory", "0::/\n").is_of_this_process_alone() is alone


@pytest.mark.parametrize(("quota", "cpus"), [(0.2, 1), (1.5, 2), (4.0, 4), (64.0, 8), (None, 8)])
def test_no_more_threads_than_the_quota_keeps_busy(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cgroup.Cgroup, "cpu_quota", lambda _: quota)

    assert usable_cpus() == cpus


PRESSURE = (
    "some avg10=1.00 avg60=2.00 avg300=3.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0"
)


def test_how_long_a_cpu_was_waited_for(tmp_path: Path) -> None:
    machine = tmp_path / "pressure"
    _write(tmp_path, pressure=PRESSURE.replace("2500000", "9000000"))
    _write(tmp_path / "mount", cpu__pressure=PRESSURE, cpu__stat="usage_usec 7\nthrottled_usec 500000")
    found = _find(tmp_path, "cpu", "0::/\n")
    assert found.cpu_waited_seconds(machine) == 3.0

    (tmp_path / "mount" / "cpu.pressure").unlink()  # as in cgroup v1
    assert found.cpu_waited_seconds(machine) == 9.5
    assert found.cpu_waited_seconds(tmp_path / "absent") is None
    assert Cgroup(()).cpu_waited_seconds(machine) == 9.0

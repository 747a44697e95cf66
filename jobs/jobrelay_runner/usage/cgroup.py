"""The container's limits and what it used, from cgroup v2 or v1.

A container sees its own cgroup at the root of the mount (v2, with a cgroup namespace) or at the
path that /proc/self/cgroup names; both places are tried. Sources: the kernel's
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: cgroup v1 writes "no limit" as the largest multiple of the page size below 2^63.
_NO_LIMIT: Final = 1 << 60


@dataclass(frozen=True)
class Cgroup:
    """The cgroup of this process, for one controller. `folders`: its own first, then its ancestors'."""

    folders: tuple[Path, ...]

    @classmethod
    def find(
        cls, controller: str, proc: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
    ) -> Cgroup:
        """Find the cgroup for `controller` (v1: "memory", "cpu"; v2 has one tree for all)."""
        try:
            lines = proc.read_text().splitlines()
        except OSError:  # not Linux, or /proc hidden
            return cls(())
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return cls(tuple(_upwards(mount / controller, path)))
        for line in lines:
            if line.startswith("0::"):
                return cls(tuple(_upwards(mount, line[3:])))
        return cls(())

    def memory_limit_bytes(self) -> int | None:
        """Return the smallest limit in force here; None without one."""
        found = [self._number(folder, "memory.max", "memory.limit_in_bytes") for folder in self.folders]
        limits = [limit for limit in found if limit is not None and limit < _NO_LIMIT]
        return min(limits, default=None)

    def memory_peak_bytes(self) -> int | None:
        """Return the peak memory use since the cgroup was created, page cache included."""
        if not self.folders:
            return None
        return self._number(self.folders[0], "memory.peak", "memory.max_usage_in_bytes")

    def oom_kills(self) -> int:
        """Return how many processes the kernel has killed here for lack of memory since its creation."""
        for folder in self.folders[:1]:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError, ValueError):
                    counts = dict(line.split() for line in (folder / name).read_text().splitlines())
                    return int(counts.get("oom_kill", 0))  # kernels before 4.13 do not count in v1
        return 0

    def cpu_waited_seconds(self, machine: Path | None = Path("/proc/pressure/cpu")) -> float | None:
        """Return how long processes here waited for a CPU or were throttled since the cgroup was created.

        machine: the whole machine's figure, used if the cgroup reports none (v1); it is too large rather
        than too small.
        """
        folder = self.folders[0] if self.folders else None
        waited = _stalled(folder / "cpu.pressure") if folder else None
        if waited is None and machine:
            waited = _stalled(machine)
        throttled = _throttled(folder / "cpu.stat") if folder else 0.0
        return None if waited is None else waited + throttled

    def is_of_this_process_alone(self) -> bool:
        """Whether the cgroup counts only this process, as in a container and unlike in a login session."""
        try:
            return (self.folders[0] / "cgroup.procs").read_text().split() == [str(os.getpid())]
        except (OSError, IndexError):
            return False

    def cpu_quota(self) -> float | None:
        """Return the quota in CPUs; None without one."""
        quotas = [quota for folder in self.folders if (quota := self._quota(folder)) is not None]
        return min(quotas, default=None)

    @staticmethod
    def _quota(folder: Path) -> float | None:
        try:  # v2: "200000 100000" or "max 100000"
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            try:
                quota = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            except OSError:
                return None
        if not quota.isdigit() or not period.isdigit() or int(period) == 0:  # "max", "-1"
            return None
        return int(quota) / int(period)

    @staticmethod
    def _number(folder: Path, *names: str) -> int | None:
        for name in names:
            try:
                return int((folder / name).read_text())
            except (OSError, ValueError):  # missing, or "max"
                continue
        return None


def usable_cpus() -> int:
    """Return how many CPUs this process may keep busy: its affinity, capped by the cgroup's quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Cgroup.find("cpu").cpu_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def memory_bytes() -> int:
    """Return how much memory this process may use: the machine's, capped by the cgroup's limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, Cgroup.find("memory").memory_limit_bytes() or machine)


def _stalled(pressure: Path) -> float | None:
    """Return the seconds in a pressure file: "some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS"."""
    try:
        found = re.search(r"^some .*total=(\d+)$", pressure.read_text(), re.MULTILINE)
    except OSError:  # before Linux 4.20, or switched off
        return None
    return int(found[1]) / 1e6 if found else None


def _throttled(stat: Path) -> float:
    """Return the seconds throttled by a quota: throttled_usec in v2, throttled_time (nanoseconds) in v1."""
    try:
        counts = dict(line.split() for line in stat.read_text().splitlines())
        return int(counts.get("throttled_usec", 0)) / 1e6 + int(counts.get("throttled_time", 0)) / 1e9
    except (OSError, ValueError):
        return 0.0


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """Yield root/a/b, root/a, root for "/a/b", if they exist (in a container, often only the root)."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        folder = root.joinpath(*parts[:length])
        if folder.is_dir():
            yield folder

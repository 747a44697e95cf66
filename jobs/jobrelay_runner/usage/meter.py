"""What a stage costs: time, CPU time, memory."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, replace

from jobrelay_runner.usage.cgroup import Cgroup
from jobrelay_runner.volume.record import Cost


@dataclass(frozen=True)
class Usage:
    """What a stage costs, counted from the start of its work; before that, from the supervisor's start."""

    started: float
    memory: Cgroup
    own_cgroup: bool
    oom_kills_before: int
    cpu: Cgroup
    waited_before: float | None
    cpu_before: float = 0.0

    @classmethod
    def start(cls) -> Usage:
        memory, cpu = Cgroup.find("memory"), Cgroup.find("cpu")
        # Checked before the fork: the question is whether another process was here first.
        alone = memory.is_of_this_process_alone()
        cpu = cpu if alone else Cgroup(())  # a shared cgroup is not the stage's: use the machine's figure
        return cls(time.monotonic(), memory, alone, memory.oom_kills(), cpu, cpu.cpu_waited_seconds())

    def from_now_on(self, cpu_seconds: float) -> Usage:
        """Return a copy whose clocks restart now, at the start of the work.

        This leaves out the imports and, for a stage that was started early, the wait for its turn.

        cpu_seconds: CPU time that the stage's process has used until now.
        """
        waited = self.cpu.cpu_waited_seconds()
        return replace(self, started=time.monotonic(), waited_before=waited, cpu_before=cpu_seconds)

    def oom_kills(self) -> int:
        """Return how many of the stage's processes the kernel killed for lack of memory; 0 if unknown."""
        return self.memory.oom_kills() - self.oom_kills_before if self.own_cgroup else 0

    def cost(self) -> Cost:
        """Return the cost until now; children count once they have been waited for."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak = self.memory.memory_peak_bytes() if self.own_cgroup else None
        waited = self.cpu.cpu_waited_seconds()
        if waited is not None and self.waited_before is not None:
            waited = round(max(waited - self.waited_before, 0.0), 3)
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB here
        return Cost(
            wall_seconds=round(time.monotonic() - self.started, 3),
            cpu_seconds=round(max(usage.ru_utime + usage.ru_stime - self.cpu_before, 0.0), 3),
            cpu_waited_seconds=waited,
            peak_memory_bytes=usage.ru_maxrss * unit if peak is None else peak,
            peak_memory_from="process" if peak is None else "cgroup",
            memory_limit_bytes=self.memory.memory_limit_bytes(),
        )

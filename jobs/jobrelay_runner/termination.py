"""What a stage's process reports at its end: in its log and in its Pod's termination message."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobrelay_runner import exit_codes
from jobrelay_runner.log import StageLog
from jobrelay_runner.stages import Stage
from jobrelay_runner.usage.meter import Usage
from jobrelay_runner.volume.record import Closing


@dataclass(frozen=True)
class LastWords:
    """Reports for one stage until its process ends."""

    stage: Stage
    tee: StageLog
    meter: Usage
    termination: Path | None

    def say(self, text: str) -> None:
        """Write a line of the supervisor's to the log."""
        self.tee.say(f"{self.stage}: {text}")

    def close(
        self,
        code: int,
        metrics: Mapping[str, float] | None = None,
        *,
        moments: Mapping[str, str] | None = None,
        error: str | None = None,
        skipped: bool = False,
    ) -> int:
        """Close the log and write the termination message. Returns the exit code."""
        closing = Closing(
            stage=self.stage,
            exit_code=code,
            skipped=skipped,
            error=error,
            oom_kills=self.meter.oom_kills(),
            metrics=dict(metrics or {}),
            log=self.tee.digest(),
            cost=self.meter.cost(),
            moments=dict(moments or {}),
        )
        self.tee.close()
        leave_message(self.termination, closing.message())
        return code


def leave_message(path: Path | None, message: str) -> None:
    """Write the Pod's termination message. The file is a mount, so it is written in place, not replaced."""
    if path is None:
        return
    try:
        path.write_text(message, encoding="utf-8")
    except OSError as error:
        print(f"cannot write the termination message: {error}", file=sys.stderr)


def unexplained(code: int, meter: Usage) -> str:
    """Return an explanation for a stage that ended without a report."""
    if code == exit_codes.PEER_LOST:
        return "another Pod of this stage was lost, and this one could not continue without it"
    number = code - 128
    if meter.oom_kills():
        how = "" if number == signal.SIGKILL else f", and the stage ended with exit code {code}"
        return out_of_memory(meter) + how
    if number == signal.SIGKILL:
        return f"killed by signal 9 (out of memory?){_peak_and_limit(meter)}"
    if number in signal.valid_signals():
        return f"killed by signal {number} ({signal.strsignal(number)})"
    return f"ended with exit code {code} and gave no reason"


def out_of_memory(meter: Usage) -> str:
    killed = meter.oom_kills()
    which = "a process" if killed == 1 else f"{killed} processes"
    return f"out of memory: the kernel killed {which} of this stage{_peak_and_limit(meter)}"


def _peak_and_limit(meter: Usage) -> str:
    cost = meter.cost()
    if cost.memory_limit_bytes is None:
        return ""
    gib = 1024**3
    return f"; peak {cost.peak_memory_bytes / gib:.2f} GiB, limit {cost.memory_limit_bytes / gib:.2f} GiB"

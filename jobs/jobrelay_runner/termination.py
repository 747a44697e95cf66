"""What a stage's process says about its own end: in its log, and in its Pod's termination message."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobrelay_runner.log import Tee
from jobrelay_runner.stages import Stage
from jobrelay_runner.usage.meter import Meter
from jobrelay_runner.volume.record import Closing


@dataclass(frozen=True)
class LastWords:
    """Speaks for one stage until its process ends."""

    stage: Stage
    tee: Tee
    meter: Meter
    termination: Path | None

    def say(self, text: str) -> None:
        """A line of the supervisor's own in the log."""
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
        """Close the log and leave the termination message. Returns the exit code."""
        closing = Closing(
            stage=self.stage,
            exit_code=code,
            skipped=skipped,
            error=error,
            oom_kills=self.meter.oom_kills(),
            metrics=dict(metrics or {}),
            log=self.tee.proof(),
            cost=self.meter.cost(),
            moments=dict(moments or {}),
        )
        self.tee.close()
        leave_message(self.termination, closing.message())
        return code


def leave_message(path: Path | None, message: str) -> None:
    """Write the Pod's termination message. The file is a mount: it is written in place, not replaced."""
    if path is None:
        return
    try:
        path.write_text(message, encoding="utf-8")
    except OSError as error:
        print(f"cannot write the termination message: {error}", file=sys.stderr)

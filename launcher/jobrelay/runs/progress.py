"""What a run reports while it goes: to the console of the command line, or to a program as events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jobrelay.hints import Hint
from jobrelay.runs.report import StageReport


class Progress(Protocol):
    """Told by the launcher's own threads, one of which reads each log."""

    def say(self, text: str) -> None:
        """A line of progress."""

    def detail(self, text: str) -> None:
        """A line for those who want to know more."""

    def complete(self, hint: Hint) -> str:
        """A hint as the user can follow it."""
        ...

    def submitted(self, stage: str, job: str, how: str) -> None:
        """A stage's Job is there. how: created, early, adopted, replaced, complete."""

    def waiting(self, stage: str, text: str) -> None:
        """What a stage waits for now."""

    def running(self) -> None:
        """The stage waits for nothing any more."""

    def log_of(self, name: str) -> Callable[[bytes], None]:
        """A sink for what a Pod prints, by the name of its stage (`train`, of several Pods `train.1`)."""
        ...

    def ended(self, stage: StageReport) -> None:
        """A stage has ended, and its log is kept."""

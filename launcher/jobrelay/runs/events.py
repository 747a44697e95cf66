"""What a run reports while it goes: to the console of the command line, or to a program as events."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from jobrelay.hints import Hint
from jobrelay.runs.report import RunReport, StageReport

_LOG: Final = logging.getLogger("jobrelay")


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


@dataclass(frozen=True)
class Submitted:
    """A stage's Job is there. how: created, early, or there before (adopted, replaced, complete)."""

    stage: str
    job: str
    how: str


@dataclass(frozen=True)
class Waiting:
    """What a stage waits for, in the API's own words where it has some."""

    stage: str
    reason: str


@dataclass(frozen=True)
class LogLine:
    """A line that a stage printed. stage: `train`; of a stage of several Pods `train.0`, `train.1` …"""

    stage: str
    text: str


@dataclass(frozen=True)
class Ended:
    """A stage has ended, and its log is kept."""

    stage: str
    report: StageReport


Event = Submitted | Waiting | LogLine | Ended


class Started(Iterator[Event]):
    """A run that is under way in a thread of its own. Iterate for its events; they end with the run.

    Whoever stops iterating stops nothing: `Relay.cancel` ends a run.
    """

    def __init__(self, work: Callable[[Callable[[Event], None]], RunReport]) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._report: RunReport | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(work,), name="jobrelay", daemon=True)
        self._thread.start()

    def __next__(self) -> Event:
        """The next event, once there is one. Raises StopIteration at the end, and what the run raised."""
        if event := self._events.get():
            return event
        self._events.put(None)  # for whoever asks again
        if self._error:
            raise self._error
        raise StopIteration

    def result(self) -> RunReport:
        """Wait for the end. Returns how the run went, or raises what `Relay.run` would."""
        self._thread.join()
        if self._error:
            raise self._error
        assert self._report is not None
        return self._report

    def _work(self, work: Callable[[Callable[[Event], None]], RunReport]) -> None:
        try:
            self._report = work(self._events.put)
        except BaseException as error:
            self._error = error
        finally:
            self._events.put(None)


class Listener:
    """Progress as events, and as log records where there is no event for it."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._waits_for = ("", "")

    def say(self, text: str) -> None:
        _LOG.info("%s", text)

    def detail(self, text: str) -> None:
        _LOG.debug("%s", text)

    def complete(self, hint: Hint) -> str:
        return str(hint)

    def submitted(self, stage: str, job: str, how: str) -> None:
        self._emit(Submitted(stage, job, how))

    def waiting(self, stage: str, text: str) -> None:
        if (stage, text) != self._waits_for:
            self._waits_for = (stage, text)
            self._emit(Waiting(stage, text))

    def running(self) -> None:
        self._waits_for = ("", "")

    def log_of(self, name: str) -> Callable[[bytes], None]:
        rest = b""

        def hear(chunk: bytes) -> None:
            nonlocal rest
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                self._emit(LogLine(name, line.decode("utf-8", "replace")))

        return hear

    def ended(self, stage: StageReport) -> None:
        self._emit(Ended(stage.stage, stage))


def ignore(event: Event) -> None:
    """`Relay.run` returns all at once."""

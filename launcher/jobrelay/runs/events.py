"""Progress of a run: to the console of the command line, or to a program as events."""

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
    """Receiver of progress. The launcher's threads call it; each log has its own thread."""

    def say(self, text: str) -> None:
        """A line of progress."""

    def detail(self, text: str) -> None:
        """A line of detail, for verbose output."""

    def complete(self, hint: Hint) -> str:
        """Return a hint in a form that the user can follow."""
        ...

    def submitted(self, stage: str, job: str, how: str) -> None:
        """A stage's Job exists. how: created, early, adopted, replaced, complete."""

    def waiting(self, stage: str, text: str) -> None:
        """What a stage waits for now."""

    def running(self) -> None:
        """The stage no longer waits."""

    def log_of(self, name: str) -> Callable[[bytes], None]:
        """Return a sink for a Pod's output. name: its stage (`train`; with several Pods `train.1`)."""
        ...

    def ended(self, stage: StageReport) -> None:
        """A stage has ended, and its log is kept."""


@dataclass(frozen=True)
class Submitted:
    """A stage's Job exists. how: created, early, or from before (adopted, replaced, complete)."""

    stage: str
    job: str
    how: str


@dataclass(frozen=True)
class Waiting:
    """What a stage waits for, in the API's own words if it gives a reason."""

    stage: str
    reason: str


@dataclass(frozen=True)
class LogLine:
    """A line that a stage printed. stage: `train`; with several Pods `train.0`, `train.1` …"""

    stage: str
    text: str


@dataclass(frozen=True)
class Ended:
    """A stage has ended, and its log is kept."""

    stage: str
    report: StageReport


Event = Submitted | Waiting | LogLine | Ended


class Started(Iterator[Event]):
    """A run in its own thread. Iterate over its events; they end with the run.

    If you stop iterating, the run continues: `Relay.cancel` ends it.
    """

    def __init__(self, work: Callable[[Callable[[Event], None]], RunReport]) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._report: RunReport | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(work,), name="jobrelay", daemon=True)
        self._thread.start()

    def __next__(self) -> Event:
        """Wait for the next event. At the end, raises what the run raised, else StopIteration."""
        if event := self._events.get():
            return event
        self._events.put(None)  # for another call after the end
        if self._error:
            raise self._error
        raise StopIteration

    def result(self) -> RunReport:
        """Wait for the end of the run. Returns its report, or raises what `Relay.run` raises."""
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
    """Progress as events, or as log records if there is no event for it."""

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
    """Drop an event: `Relay.run` returns only the report."""

"""Trials become runs, so many at a time, and every one a row."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from jobs.contract.counting import counted
from launcher.errors import BadInput
from launcher.sweep.design import Trial
from launcher.sweep.log import SweepLog
from launcher.sweep.table import FIGURES, Row

_CONDITION: Final = re.compile(r"\s*([a-z_]+)\s*(>=|<=)\s*([-+0-9.e]+)\s*")

#: Runs one trial to its end, and reads what it has left.
RunTrial = Callable[[Trial, str], Row]


@dataclass(frozen=True)
class Condition:
    """`test_acc>=0.99`: when a trial is good enough, so that no other is begun."""

    metric: str
    at_least: bool
    limit: float

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Raises BadInput."""
        match = _CONDITION.fullmatch(text)
        try:
            if match and match[1] in FIGURES:
                return cls(match[1], match[2] == ">=", float(match[3]))
        except ValueError:
            pass
        raise BadInput(
            f"--stop-when {text}: a figure and a limit are expected, as in test_acc>=0.99",
            f"the figures are {', '.join(FIGURES)}",
        )

    def holds(self, row: Row) -> bool:
        """Whether this trial is good enough; one that failed is not."""
        value = row.figures.get(self.metric)
        if value is None or row.status != "succeeded":
            return False
        return value >= self.limit if self.at_least else value <= self.limit


def run_trials(
    trials: Sequence[tuple[Trial, str]],
    run_trial: RunTrial,
    *,
    at_once: int,
    stop_when: Condition | None,
    log: SweepLog,
    on_row: Callable[[Row], None],
) -> None:
    """Every trial with its run's id, at most so many at once; `on_row` hears of each that has ended.

    A trial that fails is a row that says why, and the others go on. An error (the API is lost, the
    image is not there for anybody) concerns them all: it is raised once those that run have ended.
    """
    ended: SimpleQueue[tuple[str, Row | BaseException]] = SimpleQueue()

    def run(trial: Trial, name: str) -> None:
        try:
            ended.put((name, run_trial(trial, name)))
        except BaseException as error:  # whatever it is: who waits for this trial must hear of it
            ended.put((name, error))

    waiting, running = list(trials), set[str]()
    error: BaseException | None = None
    while running or waiting:
        while waiting and len(running) < at_once:
            trial, name = waiting.pop(0)
            log(f"{name} started: {trial}")
            running.add(name)
            # a daemon: on Ctrl-C the launcher goes, and the Jobs stay
            threading.Thread(target=run, args=(trial, name), name=name, daemon=True).start()
        name, outcome = ended.get()
        running.remove(name)
        if isinstance(outcome, BaseException):
            error = error or outcome
            waiting.clear()
            log(f"{name}: {outcome}; no further trial is started")
            continue
        on_row(outcome)
        log(f"{name} {outcome.told()}")
        if waiting and stop_when and stop_when.holds(outcome):
            log(f"{name} meets --stop-when; {counted(len(waiting), 'trial')} not started")
            waiting.clear()
    if error:
        raise error

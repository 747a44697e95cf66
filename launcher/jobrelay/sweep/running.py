"""Run trials, several at a time, and turn each into a row."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from jobrelay.errors import BadInput, JobRelayError
from jobrelay.sweep.design import Trial
from jobrelay.sweep.log import SweepLog
from jobrelay.sweep.table import Row
from jobrelay_runner.text.counting import counted

_CONDITION: Final = re.compile(r"\s*([^\s<>=]+)\s*(>=|<=)\s*([-+0-9.e]+)\s*")

#: Runs one trial to its end and reads its files.
RunTrial = Callable[[Trial, str], Row]


@dataclass(frozen=True)
class Condition:
    """The condition of --stop-when, `test_acc>=0.99`: once a trial meets it, no further trial starts."""

    metric: str
    at_least: bool
    limit: float

    @classmethod
    def parse(cls, text: str, figures: Sequence[str] = ()) -> Condition:
        """Parse `METRIC>=LIMIT` or `METRIC<=LIMIT`. Raises BadInput.

        figures: that exist, if all are known before the first trial.
        """
        match = _CONDITION.fullmatch(text)
        try:
            if match and (match[1] in figures or not figures):
                return cls(match[1], match[2] == ">=", float(match[3]))
        except ValueError:
            pass
        example = "test_acc>=0.99" if figures else "evaluate.acc>=0.99"
        raise BadInput(
            f"--stop-when {text}: a figure and a limit are expected, as in {example}",
            f"the figures are {', '.join(figures)}" if figures else f"--stop-when '{example}'",
        )

    def holds(self, row: Row) -> bool:
        """Whether this trial meets the condition; a failed trial does not."""
        value = row.figure(self.metric)
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
    """Run all trials, given with their run ids; call `on_row` with each finished one.

    at_once: the most that run at the same time. A failed trial becomes a row with its cause, and the others
    continue. An error that affects all trials (API lost, image missing; what `on_row` raises) is raised once
    the running trials have finished.
    """
    ended: SimpleQueue[tuple[str, Row | BaseException]] = SimpleQueue()

    def run(trial: Trial, name: str) -> None:
        try:
            ended.put((name, run_trial(trial, name)))
        except BaseException as error:  # any error: the loop below waits for this trial
            ended.put((name, error))

    waiting, running = list(trials), set[str]()
    error: BaseException | None = None
    while running or waiting:
        while waiting and len(running) < at_once:
            trial, name = waiting.pop(0)
            log(f"{name} started: {trial}")
            running.add(name)
            # a daemon thread: on Ctrl-C the launcher exits at once, and the Jobs stay
            threading.Thread(target=run, args=(trial, name), name=name, daemon=True).start()
        name, outcome = ended.get()
        running.remove(name)
        if isinstance(outcome, Row):
            summary = outcome.summary()
            try:
                on_row(outcome)
            except JobRelayError as problem:
                outcome = problem
            log(f"{name} {summary}")
        if isinstance(outcome, BaseException):
            error = error or outcome
            waiting.clear()
            log(f"{name}: {outcome}; no further trial is started")
            continue
        if waiting and stop_when and stop_when.holds(outcome):
            log(f"{name} meets --stop-when; {counted(len(waiting), 'trial')} not started")
            waiting.clear()
    if error:
        raise error

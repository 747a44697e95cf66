"""Run trials, several at a time or in a pack, and turn each into a row."""

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
from jobrelay.sweep.packing import Packing
from jobrelay.sweep.table import Row
from jobrelay_runner.text.counting import counted

_CONDITION: Final = re.compile(r"\s*([^\s<>=]+)\s*(>=|<=)\s*([-+0-9.e]+)\s*")

#: Runs trials, given with their run ids, to their end and reads their files.
RunTrials = Callable[[Sequence[tuple[Trial, str]]], Sequence[Row]]


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
    run_pack: RunTrials,
    *,
    packing: Packing,
    stop_when: Condition | None,
    log: SweepLog,
    on_row: Callable[[Row], None],
) -> None:
    """Run all trials, given with their run ids; call `on_row` with each finished one.

    packing: the most packs that run at the same time, and their sizes. A failed trial becomes a row with its
    cause, and the others continue. An error that affects all trials (API lost, image missing; what `on_row`
    raises) is raised once the running trials have finished.
    """
    ended: SimpleQueue[tuple[str, Sequence[Row] | BaseException]] = SimpleQueue()

    def run(pack: Sequence[tuple[Trial, str]], name: str) -> None:
        try:
            ended.put((name, run_pack(pack)))
        except BaseException as error:  # any error: the loop below waits for these trials
            ended.put((name, error))

    waiting, running = list(trials), set[str]()
    error: BaseException | None = None
    while running or waiting:
        while waiting and len(running) < packing.at_once:
            size = packing.size(len(waiting))
            pack, waiting = waiting[:size], waiting[size:]
            for trial, name in pack:
                log(f"{name} started: {trial}")
            name = pack[0][1]
            running.add(name)
            # a daemon thread: on Ctrl-C the launcher exits at once, and the Jobs stay
            threading.Thread(target=run, args=(pack, name), name=name, daemon=True).start()
        name, outcome = ended.get()
        running.remove(name)
        if not isinstance(outcome, BaseException):
            packing.learn(outcome)
            outcome = _reported(outcome, log, on_row)
        if isinstance(outcome, BaseException):
            error = error or outcome
            waiting.clear()
            log(f"{name}: {outcome}; no further trial is started")
            continue
        good = [row for row in outcome if stop_when and stop_when.holds(row)]
        if waiting and good:
            log(f"{good[0].run} meets --stop-when; {counted(len(waiting), 'trial')} not started")
            waiting.clear()
    if error:
        raise error


def _reported(
    rows: Sequence[Row], log: SweepLog, on_row: Callable[[Row], None]
) -> Sequence[Row] | JobRelayError:
    """Report each row; return the rows, or what `on_row` raised first."""
    error: JobRelayError | None = None
    for row in rows:
        try:
            on_row(row)
        except JobRelayError as problem:
            error = error or problem
        log(f"{row.run} {row.summary()}")
    return error or rows

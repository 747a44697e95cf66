"""Trials become runs, some at a time. All that is known of a sweep lies in the cluster, on the volume and
in its folder: killed and started again, it goes on where it was."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from launcher.errors import BadInput, Exit, JobRelayError
from launcher.sweep.design import Trial
from launcher.sweep.table import Row

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
            if match:
                return cls(match[1], match[2] == ">=", float(match[3]))
        except ValueError:
            pass
        raise BadInput(
            f"--stop-when {text}: a figure and a limit are expected", "--stop-when 'test_acc>=0.99'"
        )

    def holds(self, row: Row) -> bool:
        """Whether this trial is good enough; one that failed is not."""
        value = row.figures.get(self.metric)
        if value is None:
            return False
        return value >= self.limit if self.at_least else value <= self.limit


class SweepLog:
    """sweep.log: a line for whatever happens, with its time; the same line is said. A context manager."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._say = say
        self._lock = threading.Lock()

    def __enter__(self) -> SweepLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __call__(self, text: str) -> None:
        when = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with self._lock:
            self._file.write(f"{when} {text}\n")
            self._file.flush()
        self._say(text)


def run_trials(
    trials: Sequence[tuple[Trial, str]],
    run_trial: RunTrial,
    *,
    at_once: int,
    stop_when: Condition | None,
    log: SweepLog,
    on_row: Callable[[Row], None],
) -> list[Row]:
    """Every trial with its run's id, at most so many at once; returns rows in the order of the trials.

    A trial that fails is a row that says why, and the others go on. What concerns them all (the API is
    lost, the image is not there for anybody) ends the sweep: raises JobRelayError once those that run
    have ended.
    """
    rows: dict[str, Row] = {}
    waiting, running = list(trials), dict[Future[Row], str]()
    enough = False
    with ThreadPoolExecutor(at_once, "trial") as threads:
        while running or (waiting and not enough):
            while waiting and not enough and len(running) < at_once:
                trial, run = waiting.pop(0)
                log(f"{run} begins: {described(trial)}")
                running[threads.submit(run_trial, trial, run)] = run
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                run = running.pop(future)
                try:
                    row = future.result()
                except JobRelayError as error:
                    if error.exit_code in (Exit.API_LOST, Exit.BAD_INPUT):
                        waiting.clear()
                        log(f"{run}: {error.what}; no other trial begins")
                        threads.shutdown(wait=True, cancel_futures=True)
                    raise
                rows[run] = row
                on_row(row)
                log(f"{run} {row.told()}")
                if stop_when and stop_when.holds(row) and not enough:
                    enough = True
                    log(f"{run} is good enough; {len(waiting)} trials are not begun")
    return [rows[run] for _, run in trials if run in rows]


def described(trial: Trial) -> str:
    """train.epochs=3 train.batch_size=64 seed=0"""
    return " ".join([*(f"{key}={value}" for key, value in trial.settings), f"seed={trial.seed}"])

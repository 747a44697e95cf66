"""A whole sweep, in a folder: sweep.json, sweep.csv, sweep.log, observations.txt, plots/, runs/.

The folder, the cluster and the volume hold the whole state: killed and started again, a sweep resumes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobrelay.console import Console
from jobrelay.errors import Conflict
from jobrelay.report.drawing import NO_PNG
from jobrelay.runs.results import require_place
from jobrelay.sweep.design import Trial
from jobrelay.sweep.log import SweepLog
from jobrelay.sweep.observations import observations, points
from jobrelay.sweep.packing import Packing
from jobrelay.sweep.plots import draw
from jobrelay.sweep.running import Condition, run_trials
from jobrelay.sweep.table import Row, to_csv
from jobrelay.sweep.trial import Trials
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume.files import write_atomically, write_json
from jobrelay_runner.volume.safe_read import RECORD_BYTES, read_bytes


@dataclass(frozen=True)
class Sweep:
    """The design of a sweep.

    shared: the configuration that the trials change. base: values of the keys while they are not swept; None
    for a grid.
    """

    name: str
    trials: tuple[Trial, ...]
    shared: dict[str, Any]
    base: dict[str, Any] | None = None

    @property
    def keys(self) -> list[str]:
        """The swept keys, in the order given."""
        return list(dict.fromkeys(key for trial in self.trials for key, _ in trial.settings))

    @property
    def headings(self) -> list[str]:
        """The swept keys, and the seed if the trials have one."""
        return list(dict.fromkeys(key for trial in self.trials for key in trial.values))

    def named(self) -> list[tuple[Trial, str]]:
        """Every trial with its run id, which depends only on the trial and the sweep's name."""
        return [(trial, f"{self.name}-{trial.digest}") for trial in self.trials]

    def tree(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The content of sweep.json. chosen: what the best trial is chosen by."""
        trials = [
            {"run": run, "settings": dict(trial.settings), "seed": trial.seed} for trial, run in self.named()
        ]
        return {"name": self.name, "shared": self.shared, "base": self.base, **chosen, "trials": trials}


def check(sweep: Sweep, how: Trials) -> None:
    """Check in advance that the sweep can run. Raises BadInput, Conflict."""
    how.check(sweep.named())
    _check_folder(sweep, how.folder)


def carry_out(
    sweep: Sweep, how: Trials, console: Console, *, packing: Packing, stop_when: Condition | None
) -> list[Row]:
    """Run every trial and write the folder; return the rows in the order of the trials.

    Rewrites the table after every trial, so that you can watch it. Raises what `check` raises, before any
    change, and errors that affect all trials (ApiLost …).
    """
    check(sweep, how)
    how.folder.mkdir(parents=True, exist_ok=True)
    table = _Table(sweep, how)
    with SweepLog(how.folder / "sweep.log", console) as log:
        log(f"sweep {sweep.name}: {counted(len(sweep.trials), 'trial')}, at most {packing.at_once} at once")
        table.start(log)
        packing.learn(table.rows)
        run_trials(
            sweep.named(), lambda trials: how.run_pack(trials, log),
            packing=packing, stop_when=stop_when, log=log, on_row=lambda row: table.add(row, log),
        )  # fmt: skip
        lines = observations(table.rows, sweep.keys, how.pipeline, sweep.base)
        for line in lines:
            log(line)
    write_atomically(how.folder / "observations.txt", "".join(f"{line}\n" for line in lines))
    _draw(sweep, table.rows, how, console)
    return table.rows


class _Table:
    """The rows so far, in sweep.csv; sweep.json has what the best of them is chosen by, once it is known."""

    def __init__(self, sweep: Sweep, how: Trials) -> None:
        self._sweep = sweep
        self._how = how
        self._chosen: dict[str, Any] | None = None
        # from the start: the table of a resumed sweep must not lose rows
        found = (how.finished_row(trial, run) for trial, run in sweep.named())
        self._rows = {row.run: row for row in found if row}

    @property
    def rows(self) -> list[Row]:
        """The rows, in the order of the trials."""
        return [self._rows[run] for _, run in self._sweep.named() if run in self._rows]

    def start(self, log: SweepLog) -> None:
        """Write sweep.json. Raises BadInput if earlier trials lack the figure to choose by."""
        self._choose(log)

    def add(self, row: Row, log: SweepLog) -> None:
        """Add a row. Raises BadInput if it lacks the figure to choose by."""
        self._rows[row.run] = row
        rows = self.rows
        write_atomically(self._how.folder / "sweep.csv", to_csv(rows, self._how.pipeline.columns(rows)))
        self._choose(log)

    def _choose(self, log: SweepLog) -> None:
        pipeline = self._how.pipeline
        objective = pipeline.objective(self.rows)
        chosen = pipeline.chosen(objective)
        if chosen == self._chosen:
            return
        self._chosen = chosen
        write_json(self._how.folder / "sweep.json", self._sweep.tree(chosen))
        if line := pipeline.announced(objective):
            log(line)


def _check_folder(sweep: Sweep, folder: Path) -> None:
    """Refuse a folder of another configuration: a sweep's name may get more trials, but only of the same."""
    path = folder / "sweep.json"
    try:
        before = json.loads(read_bytes(path, RECORD_BYTES))["shared"]
    except FileNotFoundError:
        before = sweep.shared
    except (ValueError, KeyError, TypeError) as error:
        raise Conflict(f"{path} does not describe a sweep", "another --name, or remove the folder") from error
    if before != sweep.shared:
        raise Conflict(
            f"{folder} holds a sweep of another configuration",
            "another --name, or the same --set and --config",
        )
    require_place(folder)


def _draw(sweep: Sweep, rows: Sequence[Row], how: Trials, console: Console) -> None:
    objective = how.pipeline.objective(rows)
    found = {key: points(rows, key, objective, sweep.base) for key in sweep.keys}
    drawn = {key: each for key, each in found.items() if len(each) > 1}
    if not drawn:
        return
    folder = how.folder / "plots"
    folder.mkdir(exist_ok=True)
    band = "all seeds" if sweep.base or len(sweep.keys) == 1 else "all its trials"
    files = [path for key, each in drawn.items() for path in draw(key, each, folder, band, objective)]
    if files and not any(path.suffix == ".png" for path in files):
        console.say(NO_PNG)

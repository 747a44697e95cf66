"""A whole sweep, in a folder: sweep.json, sweep.csv, sweep.log, observations.txt, plots/, runs/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.console import Console
from launcher.sweep.design import Trial
from launcher.sweep.observations import observations, points
from launcher.sweep.running import Condition, SweepLog, run_trials
from launcher.sweep.table import Row, to_csv
from launcher.sweep.trial import Trials


@dataclass(frozen=True)
class Sweep:
    """What is to be tried. base: what the keys are where they are not swept; None in a grid."""

    name: str
    trials: tuple[Trial, ...]
    base: dict[str, Any] | None = None

    @property
    def keys(self) -> list[str]:
        """The keys that differ, in the order they were given."""
        return list(dict.fromkeys(key for trial in self.trials for key, _ in trial.settings))

    def named(self) -> list[tuple[Trial, str]]:
        """Every trial with the id of its run: the same trial of the same sweep always has the same."""
        return [(trial, f"{self.name}-{trial.digest}") for trial in self.trials]


def carry_out(
    sweep: Sweep, how: Trials, console: Console, *, at_once: int, stop_when: Condition | None
) -> list[Row]:
    """Run every trial and write the folder; what is there already is not run again.

    The table is written anew after every trial, so that one can look at it meanwhile. Raises BadInput
    before anything is touched, and what concerns all trials (ApiLost …).
    """
    how.check(sweep.trials)
    how.folder.mkdir(parents=True, exist_ok=True)
    plan = {
        "name": sweep.name,
        "base": sweep.base,
        "trials": [
            {"run": run, "settings": dict(trial.settings), "seed": trial.seed} for trial, run in sweep.named()
        ],
    }
    (how.folder / "sweep.json").write_text(json.dumps(plan, indent=2) + "\n")
    rows: dict[str, Row] = {}

    def on_row(row: Row) -> None:
        rows[row.run] = row
        in_order = [rows[run] for _, run in sweep.named() if run in rows]
        (how.folder / "sweep.csv").write_text(to_csv(in_order))

    with SweepLog(how.folder / "sweep.log", console.say) as log:
        log(f"sweep {sweep.name}: {len(sweep.trials)} trials, at most {at_once} at once")
        done = run_trials(
            sweep.named(), how.run, at_once=at_once, stop_when=stop_when, log=log, on_row=on_row
        )
        said = observations(done, sweep.keys, sweep.base)
        for line in said:
            log(line)
    (how.folder / "observations.txt").write_text("".join(f"{line}\n" for line in said))
    _draw(sweep, done, how.folder / "plots")
    return done


def _draw(sweep: Sweep, rows: Sequence[Row], folder: Path) -> None:
    found = {key: points(rows, key, sweep.base) for key in sweep.keys}
    if any(len(each) > 1 for each in found.values()):
        from launcher.sweep.plots import draw  # matplotlib, half a second

        folder.mkdir(exist_ok=True)
        for key, each in found.items():
            if len(each) > 1:
                draw(key, each, folder)

"""sweep.csv: one row per trial, computed only from the trial's files, and therefore reproducible."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobrelay.sweep.design import Trial


@dataclass(frozen=True)
class Row:
    """The result of one trial. result: its figures as text for a log line, if it succeeded."""

    run: str
    trial: Trial
    status: str  # succeeded | failed | not run
    cause: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    result: str = ""

    def summary(self) -> str:
        """The result as text for a log line."""
        return self.result if self.status == "succeeded" else f"{self.status}: {self.cause}"

    def figure(self, name: str) -> float | None:
        """A figure by its name, or by the last part of its name if no other has that."""
        found = figures_named(name, self.figures)
        return self.figures[found[0]] if len(found) == 1 else None


def figures_named(name: str, figures: Iterable[str]) -> list[str]:
    """The figures that a user means by `name`: the one of that name, else all STAGE.NAME."""
    known = list(figures)
    return [name] if name in known else [each for each in known if each.partition(".")[2] == name]


def to_csv(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """The table as CSV with a header. columns: figure to its format, as in `.6f`."""
    keys = list(dict.fromkeys(key for row in rows for key, _ in row.trial.settings))
    seed = [] if rows and all(row.trial.seed is None for row in rows) else ["seed"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *keys, *seed, "status", *columns, "cause"])
    for row in rows:
        settings = dict(row.trial.settings)
        figures = [
            format(row.figures[name], spec) if name in row.figures else "" for name, spec in columns.items()
        ]
        cells = [_cell(settings.get(key)) for key in keys]
        seeds = [row.trial.seed for _ in seed]
        writer.writerow([row.run, *cells, *seeds, row.status, *figures, " ".join(row.cause.split())])
    return out.getvalue()


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

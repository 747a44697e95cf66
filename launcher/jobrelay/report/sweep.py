"""The folder of a sweep (sweep.csv, sweep.json, observations.txt, plots/) → the content of its page."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel

from jobrelay.report.files import Name, Reader, Unusable, data_uri, read
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume.safe_read import TooLarge, open_regular, read_text, why

TABLE: Final = "sweep.csv"

#: A sweep has at most a thousand trials.
_MOST_ROWS: Final = 1000
_MOST_COLUMNS: Final = 60
_MOST_TABLE: Final = 4 * 2**20
_MOST_PLOTS: Final = 24
_MOST_PLOT: Final = 512 * 1024
_MOST_OBSERVATIONS: Final = 32 * 1024

_KINDS: Final[dict[str, Literal["svg+xml", "png"]]] = {".svg": "svg+xml", ".png": "png"}  # sharper first


class Plan(BaseModel):
    """sweep.json: the fields that the page needs."""

    class PlannedTrial(BaseModel):
        run: Name
        settings: dict[Name, object]

    name: Name
    choose_on: Name | None = "test"
    larger: bool = True  # whether a larger figure is better
    trials: tuple[PlannedTrial, ...]


@dataclass(frozen=True)
class Column:
    index: int
    title: str
    numeric: bool


@dataclass(frozen=True)
class Best:
    """The best trial. chosen: what it was chosen by, in the caption of the table."""

    run: str
    label: str
    figure: str
    settings: tuple[tuple[str, str], ...]
    chosen: str


@dataclass(frozen=True)
class Plot:
    title: str
    address: str  # data:…


@dataclass(frozen=True)
class SweepPart:
    """The content of a sweep's page."""

    name: str
    tone: Literal["good", "bad", "open"]
    headline: str
    planned: int
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    best: Best | None
    observations: tuple[str, ...]
    plots: tuple[Plot, ...]
    problems: tuple[str, ...]


def gather(folder: Path, name: str) -> SweepPart:
    """Gather the content of a sweep's page."""
    usable = Reader()
    header, rows = usable(_table, folder / TABLE) or ([], [])
    plan = usable(read, folder / "sweep.json", Plan)
    planned = len(plan.trials) if plan else len(rows)
    states = [row[header.index("status")] for row in rows] if "status" in header else []
    failed = len(states) - states.count("succeeded")
    return SweepPart(
        name=plan.name if plan else name,
        tone="bad" if failed else "good" if rows and len(rows) >= planned else "open",
        headline=_headline(len(rows), failed, planned),
        planned=planned,
        columns=_columns(header, rows),
        rows=tuple(tuple(row) for row in rows),
        best=_best(header, rows, plan),
        observations=_observations(folder / "observations.txt"),
        plots=_plots(folder / "plots"),
        problems=tuple(usable.problems),
    )


def _headline(done: int, failed: int, planned: int) -> str:
    if failed:
        return f"{failed} of {counted(done, 'trial')} failed"
    if done < planned:
        have = "has" if planned - done == 1 else "have"
        return f"{planned - done} of {counted(planned, 'trial')} {have} not ended"
    if not done:
        return "no trials"
    return f"{counted(done, 'trial')} succeeded"


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of sweep.csv, every row as long as the header. Raises Unusable."""
    try:
        text = read_text(path, _MOST_TABLE, errors="replace")
        header, *rows = csv.reader(io.StringIO(text, newline=""))
    except TooLarge as error:
        raise Unusable(f"{path.name} {error.strerror}") from error
    except (OSError, csv.Error, ValueError) as error:
        raise Unusable(f"{path.name} cannot be read: {why(error)}") from error
    if len(header) > _MOST_COLUMNS or any(len(row) != len(header) for row in rows):
        raise Unusable(f"{path.name} has rows of different lengths, or more than {_MOST_COLUMNS} columns")
    return header, rows[:_MOST_ROWS]


def _columns(header: list[str], rows: list[list[str]]) -> tuple[Column, ...]:
    """The columns that are not empty; keys of the configuration (train.batch_size) keep their names."""
    found = []
    for index, title in enumerate(header):
        if values := [row[index] for row in rows if row[index]]:
            shown = title if "." in title else title.replace("_", " ")
            found.append(Column(index, shown, all(_number(value) is not None for value in values)))
    return tuple(found)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _best(header: list[str], rows: list[list[str]], plan: Plan | None) -> Best | None:
    """The trial with the best of the figures that the sweep chooses by."""
    how = _choice(plan)
    if not {"run", how.column, how.reported} <= set(header):
        return None
    places = [header.index(name) for name in (how.column, how.reported)]
    known = [
        (by, figure, row)
        for row in rows
        for by, figure in [[_number(row[place]) for place in places]]
        if by is not None and figure is not None
    ]
    if not known:
        return None
    _, figure, row = max(known, key=lambda each: each[0] if how.larger else -each[0])
    swept = {key for trial in plan.trials for key in trial.settings} if plan else set()
    settings = tuple((key, cell) for key, cell in zip(header, row, strict=True) if key in swept)
    return Best(row[header.index("run")], how.label, how.format.format(figure), settings, how.chosen)


@dataclass(frozen=True)
class _Choice:
    """column: that chooses. reported: of the best trial, as `label`. format: of this figure."""

    column: str
    reported: str
    label: str
    chosen: str
    format: str
    larger: bool = True


_CHOICES: Final = {
    "test": _Choice("test_acc", "test_acc", "best test accuracy", "chosen on the test images", "{:.2%}"),
    "validation": _Choice(
        "val_acc", "test_acc", "test accuracy of the best",
        "chosen on training images that were held out", "{:.2%}",
    ),
}  # fmt: skip


def _choice(plan: Plan | None) -> _Choice:
    """What a sweep chooses by: accuracy for the built-in programs, else a column STAGE.METRIC."""
    name = plan.choose_on or "" if plan else "test"
    if name in _CHOICES:
        return _CHOICES[name]
    larger = plan.larger if plan else True
    how = f"chosen by {name}, of which the {'largest' if larger else 'smallest'} is best"
    return _Choice(name, name, f"best {name}", how, "{:.5g}", larger)


def _observations(path: Path) -> tuple[str, ...]:
    try:
        with open_regular(path) as file:
            text = file.read(_MOST_OBSERVATIONS).decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(line for line in text.splitlines() if line.strip())


def _plots(folder: Path) -> tuple[Plot, ...]:
    """One plot per name (KEY-accuracy, KEY-time), as SVG if there is one."""
    found: dict[str, Plot] = {}
    for suffix, kind in _KINDS.items():
        for path in sorted(folder.glob(f"*{suffix}"))[:_MOST_PLOTS]:
            address = data_uri(path, kind, _MOST_PLOT, folder)
            if path.stem not in found and address:
                key, _, figure = path.stem.rpartition("-")
                found[path.stem] = Plot(f"{figure} against {key}" if key else figure, address)
    return tuple(found[name] for name in sorted(found))[:_MOST_PLOTS]

"""Columns over steps → the groups that a chart shows together: one kind of figure, of one scale."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobrelay.report.programs.lines import MOST_LINES, Line, Lines
from jobrelay.report.programs.tables import LINES, SEPARATED, WHOLE, Point, Table, read_table
from jobrelay.report.programs.written import Written, chosen
from jobrelay_runner.volume.safe_read import TooLarge, why

_MOST_FILES: Final = 12
_MOST_BYTES: Final = 4 * 2**20
_MOST_CHARTS: Final = 24
#: Lines whose heights differ by more than this have charts of their own.
_SCALE: Final = 25

#: Parts of names that say on what was measured, not what.
_ON: Final = re.compile(
    r"(?i)(?:^|(?<=[_./ -]))"
    r"(train|training|val|valid|validation|test|testing|eval|dev|avg|mean|running|epoch|batch)(?=[_./ -]|$)"
)
#: Names of one kind of figure: pattern to the name of its chart.
_KINDS: Final = {
    r"loss(es)?$|^nll$|^(?:cross_?)entropy$": "loss",
    r"^(acc|accuracy|top_?[15](_?acc(uracy)?)?|acc(uracy)?_?top_?[15])$": "accuracy",
    r"^(lr|learning_?rate)(\W?\w{1,3})?$": "learning rate",
    r"(^|_)(precision|recall|f1|f1_score|auc|iou|miou|dice|map\d*(_?\d+)?)$": "scores",
    r"^(seconds|time|duration|elapsed|.*_(seconds|time|sec|secs))$": "seconds",
}


@dataclass(frozen=True)
class Row:
    """A column in figures."""

    name: str
    first: float
    last: float
    lowest: Point
    highest: Point


@dataclass(frozen=True)
class History:
    """A file with its charts, and its columns in figures."""

    stage: str
    name: str
    x_label: str
    charts: tuple[Lines, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Histories:
    """left_out: why files, or charts, are not shown."""

    files: tuple[History, ...]
    left_out: tuple[str, ...]


def histories(folder: Path, written: list[Written]) -> Histories:
    """The charts of the files with a row per step, among those that stages wrote."""
    found: list[History] = []
    left_out: list[str] = []
    room = _MOST_CHARTS
    files = chosen(written, (*LINES, *SEPARATED, WHOLE))
    for number, file in enumerate(files):
        if len(found) == _MOST_FILES or not room:
            left_out.append(f"{len(files) - number} more files with a row per step")
            break
        try:
            table = read_table(file.read(_MOST_BYTES, folder), file.suffix)
        except TooLarge as error:
            left_out.append(f"{file.name} {error.strerror}")
            continue
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            left_out.append(f"{file.name}: {why(error)}")
            continue
        if table:
            drawn = charts(table)
            if len(drawn) > room:
                left_out.append(f"{len(drawn) - room} more charts of {file.name}")
            rows = tuple(_row(name, points) for name, points in table.columns.items())
            found.append(History(file.stage, file.name, table.x_label, tuple(drawn[:room]), rows))
            room -= len(found[-1].charts)
    return Histories(tuple(found), tuple(left_out))


def charts(table: Table) -> list[Lines]:
    """One chart for each group of columns."""
    groups: list[tuple[str, dict[str, tuple[Point, ...]]]] = []
    for name, points in table.columns.items():
        kind = kind_of(name)
        for title, group in groups:
            if title == kind and len(group) < MOST_LINES and _fits(points, group):
                group[name] = points
                break
        else:
            groups.append((kind, {name: points}))
    return [
        Lines(
            title=kind if len(group) > 1 else next(iter(group)),
            x_label=table.x_label,
            lines=tuple(Line(name, points) for name, points in group.items()),
        )
        for kind, group in groups
    ]


def kind_of(name: str) -> str:
    """What a column measures, whatever it was measured on: val_loss → loss, train/acc → accuracy."""
    bare = re.sub(r"[_./ -]+", "_", _ON.sub("", name)).strip("_").lower()
    for pattern, kind in _KINDS.items():
        if re.search(pattern, bare):
            return kind
    return bare.replace("_", " ") or name


def _fits(points: tuple[Point, ...], group: Mapping[str, tuple[Point, ...]]) -> bool:
    """Whether a line is about as high as the others."""
    heights = [_height(points), *(_height(others) for others in group.values())]
    known = [height for height in heights if height > 0]
    return not known or max(known) <= _SCALE * min(known)


def _height(points: tuple[Point, ...]) -> float:
    return max(abs(y) for _, y in points)


def _row(name: str, points: tuple[Point, ...]) -> Row:
    lowest, highest = (choose(points, key=lambda point: point[1]) for choose in (min, max))
    return Row(name, points[0][1], points[-1][1], lowest, highest)

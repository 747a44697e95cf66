"""Files with a row per step (.jsonl, .csv, .tsv, some .json) → columns of numbers over the steps."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobrelay.terminal import printable

LINES: Final = (".jsonl", ".ndjson")
WHOLE: Final = ".json"
SEPARATED: Final = {".csv": ",", ".tsv": "\t"}

_MOST_ROWS: Final = 50_000
_MOST_COLUMNS: Final = 40
_LONGEST_NAME: Final = 60
#: Greater numbers cannot be drawn.
_MOST: Final = 1e12
#: What counts the rows, the first that fits; `time` and the like are measured, not counted.
_COUNTERS: Final = (
    "global_step", "step", "steps", "iteration", "iterations", "iter", "it", "batch", "update", "updates",
    "num_updates", "timestep", "timesteps", "total_timesteps", "episode", "round", "generation",
    "epoch", "epochs",
)  # fmt: skip
#: Columns that number or name things, not measurements.
_NAMES: Final = re.compile(
    r"(?i)^(|index|idx|id|.*_id|label|target|seed|time|timestamp|wall_?time|date|unnamed.*)$"
)
#: Words of columns that are measured in training: with one of these, rows that nothing counts are steps.
_MEASURED: Final = re.compile(
    r"(?i)(^|[^a-z])(\w{0,9}loss|acc|accuracy|lr|reward|perplexity|ppl|map|f1|auc|mse|mae|rmse)([^a-z]|$)"
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Table:
    """Columns of numbers over the rows of a file. x_label: what counts the rows."""

    x_label: str
    columns: Mapping[str, tuple[Point, ...]]


def read_table(content: bytes, suffix: str) -> Table | None:
    """The columns to draw; None for a file that is not a history: another kind of table, or only one row."""
    text = content.decode("utf-8", "replace")
    rows = list(itertools.islice(_rows(text, suffix), _MOST_ROWS))
    if len(rows) < 2:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row))[: 2 * _MOST_COLUMNS]
    counter = _counter(names, rows)
    if counter is None and not any(_MEASURED.search(name) for name in names):
        return None
    columns: dict[str, tuple[Point, ...]] = {}
    others = (name for name in names if not _is_counter(name) and not _NAMES.match(_last(name)))
    for name in others:
        points = _points(rows, name, counter)
        if len(points) > 1 and len(columns) < _MOST_COLUMNS:
            columns[printable(name)[:_LONGEST_NAME]] = points
    return Table(_last(counter) if counter else "row", columns) if columns else None


def _points(rows: Sequence[Mapping[str, float]], name: str, counter: str | None) -> tuple[Point, ...]:
    """The points of a column, at ascending steps; of two at one step, the later one counts."""
    found: dict[float, float] = {}
    for number, row in enumerate(rows, 1):
        x = row.get(counter) if counter else float(number)
        if x is not None and name in row:
            found[x] = row[name]
    return tuple(sorted(found.items()))


def _counter(names: Iterable[str], rows: Sequence[Mapping[str, float]]) -> str | None:
    """The column that counts the rows: it never descends, and has a number of its own for most of them."""
    known = {name.lower(): name for name in names if _is_counter(name)}
    for wanted in _COUNTERS:
        for name in (each for lower, each in known.items() if _last(lower) == wanted):
            values = [row[name] for row in rows if name in row]
            ascends = all(a <= b for a, b in itertools.pairwise(values))
            if ascends and len(values) > len(rows) / 2 and len(set(values)) * 3 > len(values):
                return name
    return None


def _is_counter(name: str) -> bool:
    return _last(name.lower()) in _COUNTERS


def _last(name: str) -> str:
    """The last word of a name with parts: train/step, train.step."""
    return re.split(r"[./]", name)[-1]


def _rows(text: str, suffix: str) -> Iterator[dict[str, float]]:
    if suffix in LINES:
        return _json_rows(text)
    return _from_tree(text) if suffix == WHOLE else _separated(text, suffix)


def _from_tree(text: str) -> Iterator[dict[str, float]]:
    """The rows of a list of objects, or of an object of equally long lists: {"loss": [2.1, 1.4]}."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(tree, dict):
        lists = {name: each for name, each in tree.items() if isinstance(each, list) and len(each) > 1}
        length = max(map(len, lists.values()), default=0)
        lists = {name: each for name, each in lists.items() if len(each) == length}
        tree = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    for each in tree if isinstance(tree, list) else ():
        if isinstance(each, dict):
            yield dict(itertools.islice(_numbers(each, ""), 2 * _MOST_COLUMNS))


def _json_rows(text: str) -> Iterator[dict[str, float]]:
    """The numbers of each line; a line that is torn, or no object, is left out."""
    for line in text.splitlines():
        try:
            tree = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(tree, dict):
            yield dict(itertools.islice(_numbers(tree, ""), 2 * _MOST_COLUMNS))


def _numbers(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, dict) and prefix.count(".") < 4:
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and _is_drawn(value):
            yield f"{prefix}{key}", float(value)


def _separated(text: str, suffix: str) -> Iterator[dict[str, float]]:
    """The numbers of each row below the header."""
    first = text.partition("\n")[0]
    delimiter = ";" if suffix == ".csv" and first.count(";") > first.count(",") else SEPARATED[suffix]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        header = [name.strip().lstrip("\ufeff") for name in next(rows, [])]
        if any(_number(name) is not None for name in header if name):
            return  # a table of data, without names
        for row in rows:
            cells = ((name, _number(cell)) for name, cell in zip(header, row, strict=False))
            yield {name: value for name, value in cells if value is not None}
    except csv.Error:
        return


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if _is_drawn(value) else None


def _is_drawn(value: float) -> bool:
    """Whether a number can be drawn; NaN cannot."""
    return math.isfinite(value) and abs(value) < _MOST if isinstance(value, float) else abs(value) < _MOST

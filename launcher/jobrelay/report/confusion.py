"""The confusion matrix as cells, shaded by their share of the row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from jobrelay.report.files import EvalResults

#: A matrix with more classes is unreadable; the list of the most common mistakes remains.
_MOST_CLASSES: Final = 30
#: Number of shades in the style sheet, besides 0 (none).
LEVELS: Final = 9


@dataclass(frozen=True)
class Cell:
    count: int
    right: bool
    level: int  # 0 … LEVELS


@dataclass(frozen=True)
class Mistake:
    true: str
    predicted: str
    count: int
    of: int


@dataclass(frozen=True)
class Confusion:
    """The matrix and the most common mistakes. rows: by true class; None if there are too many classes."""

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...] | None
    commonest: tuple[Mistake, ...]


def confusion(results: EvalResults) -> Confusion | None:
    """Build the matrix; None if its size does not match the number of classes."""
    names, matrix = results.class_names, results.confusion_matrix
    if not names or len(matrix) != len(names) or any(len(row) != len(names) for row in matrix):
        return None
    worst = max((n for t, row in enumerate(matrix) for p, n in enumerate(row) if t != p), default=0)
    rows = tuple(
        tuple(Cell(count, true == predicted, _level(count, sum(row) if true == predicted else worst))
              for predicted, count in enumerate(row))
        for true, row in enumerate(matrix)
    )  # fmt: skip
    mistakes = [
        Mistake(names[true], names[predicted], count, sum(row))
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    mistakes.sort(key=lambda mistake: -mistake.count)
    return Confusion(names, rows if len(names) <= _MOST_CLASSES else None, tuple(mistakes[:5]))


def _level(count: int, most: int) -> int:
    return math.ceil(LEVELS * count / most) if most else 0

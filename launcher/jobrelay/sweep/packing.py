"""How many trials share a Job: the more, the shorter they are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from jobrelay.sweep.table import Row

#: A pack of trials takes about this long: its rows come at its end, all together.
_PACK_SECONDS: Final = 60.0
#: So that the file and the annotations of a pack stay small.
_MOST: Final = 100


@dataclass
class Packing:
    """The sizes of packs. asked: trials a Job; None: from the time that the trials before took.

    possible: False for trials that cannot share a Job.
    """

    at_once: int
    asked: int | None = None
    possible: bool = True
    _seconds: list[float] = field(default_factory=list)

    def learn(self, rows: Sequence[Row]) -> None:
        """Take the time that trials took into account."""
        self._seconds += [row.figures["seconds"] for row in rows if "seconds" in row.figures]

    def size(self, waiting: int) -> int:
        """The number of trials in the next Job, of those that wait."""
        if not self.possible:
            return 1
        if self.asked:
            return min(self.asked, _MOST, waiting)
        if not self._seconds:
            return 1
        fitting = _PACK_SECONDS / max(statistics.median(self._seconds), 0.01)
        return max(1, min(int(fitting), math.ceil(waiting / self.at_once), _MOST, waiting))

"""When this process came past which moment of its stage: for the timeline that the launcher shows."""

from __future__ import annotations

from typing import Final

from jobrelay_runner.usage import clock
from jobrelay_runner.volume.record import Moment

#: Of the process, as its clock is: a fork has those of its parent, too.
_PASSED: Final[dict[str, str]] = {}


def mark(moment: Moment) -> None:
    """Note the time; of a moment that comes again, as the first batch after a restart, the first counts."""
    _PASSED.setdefault(moment, clock.now("milliseconds"))


def also_marked(told: dict[str, str]) -> None:
    """Those of a process that was forked from this one, and worked for it."""
    for moment, when in told.items():
        _PASSED.setdefault(moment, when)


def moments() -> dict[str, str]:
    """Those that have come until now."""
    return dict(_PASSED)

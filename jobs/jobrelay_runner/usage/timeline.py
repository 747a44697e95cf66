"""When this process passed each moment of its stage, for the launcher's timeline."""

from __future__ import annotations

from typing import Final

from jobrelay_runner.usage import clock
from jobrelay_runner.volume.record import Moment

#: Per process, as the clock is: a fork inherits those of its parent.
_PASSED: Final[dict[str, str]] = {}


def mark(moment: Moment) -> None:
    """Note the time of a moment; if it comes again, as the first batch after a restart, the first counts."""
    _PASSED.setdefault(moment, clock.now("milliseconds"))


def also_marked(noted: dict[str, str]) -> None:
    """Add the moments of a process that was forked from this one and worked for it."""
    for moment, when in noted.items():
        _PASSED.setdefault(moment, when)


def moments() -> dict[str, str]:
    """Return the moments passed so far."""
    return dict(_PASSED)

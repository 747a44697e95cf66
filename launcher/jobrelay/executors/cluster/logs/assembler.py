"""Assemble the lines of a log from overlapping reads: each once, in order.

The kubelet stamps lines with nanoseconds, but resumes only at whole seconds. After a cut, the launcher
reads the log again from some seconds before the last line, and drops the lines it already has by stamp,
bytes and count.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from datetime import datetime, timedelta
from typing import Final

#: sinceTime is in whole seconds, and a stamp may be a little older than the one before it.
OVERLAP_SECONDS: Final = 3.0
#: 2026-11-21T14:22:33.123456789Z and the space before the text
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
#: Bytes of a line after which container runtimes start a new entry, with its own stamp.
_PART: Final = 16384


class LogAssembler:
    """Lines of overlapping reads → each line once, in order.

    `begin` a read, then `take` its stamped bytes; it returns new lines without stamps. tailing: the first
    read starts somewhere in the log, and older lines are not wanted.

    Known limit: a line stamped more than the overlap before the newest one (the node's clock was set back)
    is not read again if no read returned it before a cut. The comparison of the log with the stage's own
    count then shows that it is missing.
    """

    def __init__(self, tailing: bool = False) -> None:
        self._tailing = tailing
        self._oldest: tuple[datetime, bytes] | None = None
        self.last_second: datetime | None = None
        self._written: dict[datetime, list[bytes]] = {}  # stamped, by second, within the overlap
        self._long: list[tuple[datetime, bytes]] = []  # lines of many parts, and the second of the line after
        self._just_long: list[bytes] = []  # the same, while no line has followed yet
        self._expected: Counter[bytes] = Counter()
        self._at_start = True
        self._rest = bytearray()

    def begin(self) -> datetime | None:
        """Start a read; returns the time to read the log from (None: from its start)."""
        self._rest.clear()
        self._at_start = True
        if self.last_second is None:
            return None
        since = self.last_second - timedelta(seconds=OVERLAP_SECONDS)
        self._expected = Counter()
        for second, lines in self._written.items():
            if second >= since:
                self._expected.update(lines)
        return since

    def has_written(self, stamped: bytes) -> bool:
        """Whether that line was already returned and may come again in the current read."""
        return self._expected[stamped] > 0

    def take(self, chunk: bytes) -> bytes:
        """The new lines in `chunk`; keeps an incomplete last line for the next call."""
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            self._rest += chunk
            return b""
        whole = bytes(self._rest) + head
        self._rest[:] = tail
        return b"".join([self._line(line + b"\n") for line in whole.split(b"\n")])

    def end(self) -> bytes:
        """The last line, if the log does not end with a newline. Call it only after a read without follow."""
        rest = bytes(self._rest)
        self._rest.clear()
        return self._line(rest) if rest else b""

    def _line(self, stamped: bytes) -> bytes:
        at_start, self._at_start = self._at_start, False
        count = self._expected.get(stamped)
        if count:
            self._expected[stamped] = count - 1
            return b""
        if at_start and self._ends_a_long_line(stamped):
            return b""
        stamp = _STAMP.match(stamped)
        second = _second(stamp[1], stamp[3]) if stamp else None
        if stamp is None or second is None:
            return stamped  # the kubelet's own unstamped text: better twice than never
        if self._tailing and self._is_older(second, stamp[2]):
            return b""
        self._keep(second, stamped)
        return _joined(stamped[stamp.end() :])

    def _keep(self, second: datetime, stamped: bytes) -> None:
        if self._just_long:
            self._long += [(second, line) for line in self._just_long]
            self._just_long = []
        if len(stamped) > _PART:
            self._just_long.append(stamped)
        if self.last_second is None or second > self.last_second:
            self.last_second = second
            horizon = second - timedelta(seconds=OVERLAP_SECONDS)
            for old in [kept for kept in self._written if kept < horizon]:
                del self._written[old]
            self._long = [kept for kept in self._long if kept[0] >= horizon]
        self._written.setdefault(second, []).append(stamped)

    def _ends_a_long_line(self, stamped: bytes) -> bool:
        """Whether this is the rest of a long line that was already returned.

        A read may start within one: its parts are minutes apart if it grows as a progress bar does, and the
        kubelet leaves out those older than the requested time.
        """
        lines = [*self._just_long, *(line for _, line in self._long)]
        return any(line.endswith(stamped) for line in lines)

    def _is_older(self, second: datetime, fraction: bytes | None) -> bool:
        when = (second, (fraction or b"").ljust(9, b"0"))
        self._oldest = self._oldest or when
        return when < self._oldest


def _joined(text: bytes) -> bytes:
    """Join the parts of a line: kubelets before 1.26 put a stamp at the start of each."""
    parts = []
    at = 0
    while len(text) - at > _PART and (stamp := _STAMP.match(text, at + _PART)):
        parts.append(text[at : at + _PART])
        at = stamp.end()
    return b"".join([*parts, text[at:]]) if parts else text


@functools.lru_cache(16)  # the lines of one second come together
def _second(second: bytes, zone: bytes) -> datetime | None:
    """A stamp's time without its fraction; None if it is not a valid time."""
    try:
        return datetime.fromisoformat((second + zone.replace(b"Z", b"+00:00")).decode())
    except ValueError:  # such as month 13
        return None

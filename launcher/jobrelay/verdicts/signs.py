"""Signs of trouble in the log of a stage that succeeded: exit code 0 does not mean that it did its work."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobrelay.terminal import printable
from jobrelay.verdicts.words import cut
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume.safe_read import open_regular

#: Read at most this much from the start and from the end of a log, which may have any length.
_MOST_BYTES: Final = 8 * 2**20
_LONGEST_LINE: Final = 4096
_MOST_NOTES: Final = 5
_LONGEST_QUOTE: Final = 160

#: A launcher of several processes may put its own words before each line: [rank0]: Traceback …
_TRACEBACK: Final = re.compile(r"^(?P<before>.*?)Traceback \(most recent call last\):\s*$")
_SIGNS: Final = {
    "a process was killed": re.compile(
        r"^(\S+: line \d+: +\d+ )?Killed\b|is killed by signal|exited unexpectedly|killed by signal 9"
        r"|[Oo]ut of memory: [Kk]illed process|out of memory: the kernel killed"
    ),
    "a process crashed": re.compile(
        r"^(.{0,60}: )?(line \d+: +\d+ )?(Segmentation fault|Bus error|Aborted)\b"
        r"|\(core dumped\)|^Fatal Python error"
    ),
    "memory ran out": re.compile(
        r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|can't allocate memory|\bMemoryError\b"
    ),
    "the disk is full": re.compile(r"No space left on device"),
}  # fmt: skip
#: In every line with a sign is one of these.
_ANY: Final = re.compile(
    rb"Traceback|[Kk]illed|exited unexpectedly|Segmentation|Bus error|Aborted|core dumped|Fatal Python"
    rb"|[Oo]ut of memory|OutOfMemory|allocate memory|MemoryError|No space left|wrote nothing"
)
#: What the runner writes into the log of such a stage.
_NOTHING: Final = re.compile(r"^[a-z0-9-]+: (succeeded, but wrote nothing)$")


@dataclass
class _Found:
    count: int
    line: int
    quote: str


def signs(lines: Iterable[tuple[int, str]]) -> list[str]:
    """Return a short note for each kind of trouble in the numbered lines of a log, in their order."""
    found: dict[str, _Found] = {}
    nothing: list[str] = []
    for number, line, traceback in _with_tracebacks(lines):
        kind = "a Python traceback" if traceback else _kind(line)
        if wrote := _NOTHING.match(line):
            nothing = [wrote[1]]
        elif kind and kind in found:
            found[kind].count += 1
        elif kind:
            found[kind] = _Found(1, number, "" if line == "Killed" else _quote(line))
    return [*nothing, *(_note(kind, each) for kind, each in found.items())][:_MOST_NOTES]


def signs_in(path: Path, root: Path) -> list[str]:
    """As `signs`, of a log file; none if it cannot be read. root: as in safe_read."""
    try:
        return signs(_numbered(path, root))
    except (OSError, ValueError):
        return []


def _with_tracebacks(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str, bool]]:
    """Number, line, whether it is a traceback's exception: the lines of the traceback itself are left out.

    A traceback without an exception is returned by its first line.
    """
    start, before = 0, ""
    for number, whole in lines:
        if head := _TRACEBACK.match(whole):
            if start:
                yield start, "", True
            start, before = number, head["before"]
            continue
        line = whole.removeprefix(before)
        if start and (not line.strip() or line[0].isspace()):
            continue
        if start:
            yield start, line, True
            start = 0
            continue
        yield number, whole, False
    if start:
        yield start, "", True


def _kind(line: str) -> str | None:
    if not _ANY.search(line.encode(errors="replace")):
        return None
    return next((kind for kind, sign in _SIGNS.items() if sign.search(line)), None)


def _note(kind: str, found: _Found) -> str:
    """a Python traceback (its log, line 7, 3 times): ValueError: …"""
    many = f", {counted(found.count, 'time')}" if found.count > 1 else ""
    where = f"line {found.line:,}" if found.line > 0 else "near its end"
    return f"{kind} (its log, {where}{many})" + (f": {found.quote}" if found.quote else "")


def _numbered(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """The lines of the start and the end of a log; those after a gap have number 0.

    A part without any sign is passed over as a whole.
    """
    with open_regular(path, root=root) as file:
        size = os.fstat(file.fileno()).st_size
        parts = [file.read(2 * _MOST_BYTES if size <= 2 * _MOST_BYTES else _MOST_BYTES)]
        if size > 2 * _MOST_BYTES:
            file.seek(size - _MOST_BYTES)
            parts.append(file.read(_MOST_BYTES))
    for is_end, part in enumerate(parts):
        if _ANY.search(part):
            for number, line in enumerate(part.split(b"\n"), 1):
                yield 0 if is_end else number, _text(line[:_LONGEST_LINE])


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]


def _quote(line: str) -> str:
    return cut(printable(line).strip(), _LONGEST_QUOTE)

"""Text that is safe to print: no terminal controls, in any encoding of the stream."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
import sys
from collections.abc import Iterator
from typing import IO, Any

#: Everything a terminal acts on except tab: a log must not move the cursor or ring the bell.
#: A string ends at the next ESC or BEL, so that matching takes linear time on any line.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x1b\\|\x07)|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
#: Characters that change the direction of the text around them: a name could look like another.
_BIDIRECTIONAL = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: Characters that JSON allows unescaped and that a terminal acts on.
_IN_JSON = re.compile(f"[\x7f-\x9f]|{_BIDIRECTIONAL.pattern}")
#: ASCII for the characters that this program prints, for streams in an encoding other than UTF-8.
_PLAIN = {
    "│": "|", "─": "-", "✓": "+", "✗": "x", "…": "...", "→": "->", "×": "x", "–": "-", "—": "-", "·": ".",
    "≥": ">=", "≤": "<=", "≈": "~", "±": "+-", "µ": "u", "“": '"', "”": '"', "’": "'", "█": "#",
}  # fmt: skip


def printable(text: str) -> str:
    """`text` without terminal controls; after a carriage return, only the last part.

    Characters that change the direction of text are escaped: `\\u202e`.
    """
    return _BIDIRECTIONAL.sub(_escaped, _ESCAPES.sub("", text.rstrip("\r").rpartition("\r")[2]))


def print_in_any_encoding() -> None:
    """Make standard output and error accept every character in any encoding."""
    codecs.register_error("jobrelay", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="jobrelay")


@contextlib.contextmanager
def log_output() -> Iterator[IO[bytes]]:
    """Yield the output of `logs`: raw bytes to a file or a pipe, printable lines to a terminal."""
    if not sys.stdout.isatty():
        yield sys.stdout.buffer
        return
    lines = _PrintableLines()
    try:
        yield lines
    finally:
        lines.end()


class _PrintableLines(io.BytesIO):
    """Takes a log as bytes and prints each line once it is complete."""

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""

    def write(self, content: Any) -> int:
        *whole, self._rest = (self._rest + bytes(content)).split(b"\n")
        for line in whole:
            sys.stdout.write(printable(line.decode("utf-8", "replace")) + "\n")
        return len(content)

    def flush(self) -> None:
        sys.stdout.flush()

    def end(self) -> None:
        if self._rest:
            self.write(b"\n")
        self.flush()


def escaped_json(text: str) -> str:
    """An equivalent JSON document without terminal controls."""
    return _IN_JSON.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Handler for codecs.register_error: an ASCII equivalent, or the character's number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each) or _numbered(each) for each in text), error.end


def _numbered(character: str) -> str:
    """A character's number in ASCII; an undecodable byte of a file name stays that byte: `\\xff`."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("ascii", "backslashreplace").decode("ascii")

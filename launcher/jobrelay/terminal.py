"""What may reach a terminal: text that does nothing there, in whatever encoding it has."""

from __future__ import annotations

import codecs
import contextlib
import io
import re
import sys
from collections.abc import Iterator
from typing import IO, Any

#: Everything a terminal would act upon, but tab: a log must not move the cursor or ring the bell.
#: A string ends at the next ESC or BEL, so that no line, however made, is searched over and over.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x1b\\|\x07)|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
#: What turns the direction of the text around it: a name would look like another one.
_BIDIRECTIONAL = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: What JSON may hold as it is, and a terminal would act upon.
_IN_JSON = re.compile(f"[\x7f-\x9f]|{_BIDIRECTIONAL.pattern}")
#: For streams in another encoding than UTF-8: what this program prints, in ASCII.
_PLAIN = {
    "│": "|", "─": "-", "✓": "+", "✗": "x", "…": "...", "→": "->", "×": "x", "–": "-", "—": "-", "·": ".",
    "≥": ">=", "≤": "<=", "≈": "~", "±": "+-", "µ": "u", "“": '"', "”": '"', "’": "'", "█": "#",
}  # fmt: skip


def printable(text: str) -> str:
    """`text` without anything that a terminal would act upon; after a carriage return, the last part.

    What would turn the direction of text is made visible: `\\u202e`.
    """
    return _BIDIRECTIONAL.sub(_escaped, _ESCAPES.sub("", text.rstrip("\r").rpartition("\r")[2]))


def print_in_any_encoding() -> None:
    """Let standard output and error take every character, whatever their encoding is."""
    codecs.register_error("jobrelay", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="jobrelay")


@contextlib.contextmanager
def log_output() -> Iterator[IO[bytes]]:
    """Where `logs` writes: standard output as it is, but for a terminal, which gets printable lines."""
    if not sys.stdout.isatty():
        yield sys.stdout.buffer
        return
    lines = _PrintableLines()
    try:
        yield lines
    finally:
        lines.end()


class _PrintableLines(io.BytesIO):
    """Takes a log as bytes and prints its lines as soon as they are whole."""

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
    """A JSON document without anything that a terminal would act upon; it says the same."""
    return _IN_JSON.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """For codecs.register_error: the same in ASCII, or the character's number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each) or _numbered(each) for each in text), error.end


def _numbered(character: str) -> str:
    """A byte of a file name that is not text is one as it was: `\\xff`."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("ascii", "backslashreplace").decode("ascii")

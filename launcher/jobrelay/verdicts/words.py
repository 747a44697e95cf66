"""The cause in a program's last output, in one line."""

from __future__ import annotations

import re
import signal
from typing import Final

#: Characters of a line to show; the log has all of it.
MOST: Final = 300

_TRACEBACK: Final = "Traceback (most recent call last):"
#: The last line of a Python traceback: ValueError: …, torch.OutOfMemoryError: …
_RAISED: Final = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit|StopIteration)\b(?::.*)?")


def last_words(text: str) -> str:
    """The line of a termination message, or of the end of a log, that best explains the end.

    For a Python program that is the exception, even if something is printed after it.
    """
    lines = [line.strip("\r") for line in text.splitlines() if line.strip()]
    traceback = max((index for index, line in enumerate(lines) if line == _TRACEBACK), default=None)
    if traceback is not None:
        raised = next((line for line in lines[traceback + 1 :] if not line[0].isspace()), "")
    else:  # the tail that is kept may start within the traceback
        raised = next((line for line in reversed(lines) if _RAISED.fullmatch(line)), "")
    return cut((raised or (lines[-1] if lines else "")).strip())


def exit_text(code: int | None) -> str:
    """Format an exit code: exit code 1; exit code 139 (SIGSEGV)."""
    if code == 128 + signal.SIGKILL:
        return "exit code 137 (SIGKILL: out of memory, or killed from outside)"
    if was_killed(code):
        number = (code or 0) - 128
        name = next((known.name for known in signal.Signals if known == number), f"signal {number}")
        return f"exit code {code} ({name})"
    return f"exit code {code}"


def was_killed(code: int | None) -> bool:
    """Whether a signal ended the program; its last output is then not the cause."""
    return code is not None and code - 128 in signal.valid_signals()


def cut(line: str, most: int = MOST) -> str:
    return line if len(line) <= most else f"{line[: most - 1]}…"

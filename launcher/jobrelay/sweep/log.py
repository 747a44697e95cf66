"""sweep.log: the events of a sweep, one line each, with the time."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from jobrelay.console import Console


class SweepLog:
    """Logs the sweep's events to the file and the console, its trials' output to the file.

    A context manager.
    """

    def __init__(self, path: Path, console: Console) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._console = console
        self._lock = threading.Lock()

    def __enter__(self) -> SweepLog:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # an abandoned trial may still write
            self._file.close()

    def __call__(self, text: str) -> None:
        """Log a line to the file and the console."""
        self._keep(text)
        self._console.say(text)

    def console_of(self, run: str) -> Console:
        """The console for one trial; with -v its lines are printed, too."""

        def on_line(line: str) -> None:
            self._keep(f"{run} │ {line}")
            self._console.detail(f"{run} │ {line}")

        return Console(stderr=_Lines(on_line))

    def _keep(self, text: str) -> None:
        when = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with self._lock:
            if not self._file.closed:
                self._file.write(f"{when} {text}\n")
                self._file.flush()


class _Lines(io.StringIO):
    """A stream that passes on every line and stores none."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        super().__init__()
        self._on_line = on_line

    def write(self, text: str) -> int:
        for line in text.splitlines():
            self._on_line(line)
        return len(text)

"""sweep.log: a line for whatever happens in a sweep, with its time."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from jobrelay.console import Console


class SweepLog:
    """What concerns the sweep is said as well; what its trials say is only kept. A context manager."""

    def __init__(self, path: Path, console: Console) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._console = console
        self._lock = threading.Lock()

    def __enter__(self) -> SweepLog:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # a trial that was left alone may still say something
            self._file.close()

    def __call__(self, text: str) -> None:
        """Keep it and say it."""
        self._keep(text)
        self._console.say(text)

    def console_of(self, run: str) -> Console:
        """For one trial; with -v it is said, too."""

        def told(line: str) -> None:
            self._keep(f"{run} │ {line}")
            self._console.detail(f"{run} │ {line}")

        return Console(stderr=_Lines(told))

    def _keep(self, text: str) -> None:
        when = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        with self._lock:
            if not self._file.closed:
                self._file.write(f"{when} {text}\n")
                self._file.flush()


class _Lines(io.StringIO):
    """A stream that hands every line on, and keeps none."""

    def __init__(self, told: Callable[[str], None]) -> None:
        super().__init__()
        self._told = told

    def write(self, text: str) -> int:
        for line in text.splitlines():
            self._told(line)
        return len(text)

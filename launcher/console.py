"""What people see: progress and logs on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from jobs.contract.redaction import redacted, redacted_tree
from launcher.errors import JobRelayError
from launcher.hints import Hint

#: Everything a terminal would act upon, but tab: a log must not move the cursor or ring the bell.
#: A string ends at the next ESC or BEL, so that no line, however made, is searched over and over.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x1b\\|\x07)|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


class Console:
    """quiet: only errors and results. verbose: also what is waited for, and tracebacks."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        stderr: TextIO | None = None,
        complete: Callable[[Hint], str] = str,
    ) -> None:
        self.quiet = quiet
        self.verbose = verbose
        #: a hint as the user can paste it
        self.complete = complete
        self._stderr = stderr or sys.stderr
        self._terminal = self._stderr.isatty()
        self._lock = threading.Lock()
        self._shown_wait = ""
        self._spinner: Any = None

    def say(self, text: str) -> None:
        """A line of progress."""
        if not self.quiet:
            self._line(text)

    def detail(self, text: str) -> None:
        if self.verbose:
            self._line(text)

    def waiting(self, stage: str, text: str) -> None:
        """What a stage waits for: a spinner on a terminal, a line where it changes elsewhere."""
        if self.quiet or text == self._shown_wait:
            return
        self._shown_wait = text
        if self._terminal:
            self._spin(f"{stage}: {printable(redacted(text))}")
        elif self.verbose or ":" in text:  # a reason, not just a phase
            self._line(f"  {stage}: {text}")

    def running(self) -> None:
        """Nothing is waited for any more."""
        self._shown_wait = ""
        self._stop_spinner()

    def log_of(self, name: str) -> Callable[[bytes], None]:
        """A sink that shows what a Pod prints, whole lines, behind its stage's name (`train`, `train.1`)."""
        rest = b""

        def show(chunk: bytes) -> None:
            nonlocal rest
            *whole, rest = (rest + chunk).split(b"\n")
            if whole and not self.quiet:
                shown = (f"{name:>5} │ {printable(line.decode('utf-8', 'replace'))}" for line in whole)
                self._write("\n".join(shown))

        return show

    def warn(self, text: str) -> None:
        """A line that is shown, quiet or not."""
        self._line(text, always=True)

    def error(self, error: JobRelayError) -> None:
        self._stop_spinner()
        self._line(f"error: {error.what}", always=True)
        if error.hint:
            self.hint(self.complete(error.hint))

    def hint(self, text: str) -> None:
        self._line(f"  try: {text}", always=True)

    def _line(self, text: str, always: bool = False) -> None:
        if self.quiet and not always:
            return
        self._write("\n".join(printable(line) for line in redacted(text).split("\n")))

    def _write(self, shown: str) -> None:
        self._stop_spinner()
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._stderr.write(shown + "\n")
            self._stderr.flush()

    def _spin(self, text: str) -> None:
        from rich.console import Console as RichConsole
        from rich.markup import escape

        with self._lock:
            if self._spinner is None:
                self._spinner = RichConsole(file=self._stderr).status(escape(text))
                self._spinner.start()
            self._spinner.update(escape(text))

    def _stop_spinner(self) -> None:
        with self._lock:
            if self._spinner is not None:
                self._spinner.stop()
                self._spinner = None


def show_traceback(error: BaseException) -> None:
    """The traceback of `error` on stderr, without credentials."""
    sys.stderr.write(redacted("".join(traceback.format_exception(error))))


@contextlib.contextmanager
def libraries_heard(*, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """What loggers, warnings and threads that break write to stderr passes through the redaction.

    Our own warnings are shown unless quiet, those of libraries if verbose, errors always.
    """
    handler = _Shown(quiet, verbose)
    hook = threading.excepthook
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    threading.excepthook = _thread_broke
    try:
        yield
    finally:
        threading.excepthook = hook
        logging.captureWarnings(False)
        root.removeHandler(handler)


class _Shown(logging.Handler):
    def __init__(self, quiet: bool, verbose: bool) -> None:
        super().__init__(logging.WARNING)
        self._quiet = quiet
        self._verbose = verbose

    def emit(self, record: logging.LogRecord) -> None:
        is_ours = record.name.partition(".")[0] == "launcher" and not self._quiet
        if record.levelno >= logging.ERROR or is_ours or self._verbose:
            Console().warn(f"{record.levelname.lower()}: {self.format(record)}")


def _thread_broke(broken: threading.ExceptHookArgs) -> None:
    if broken.exc_value is not None and not isinstance(broken.exc_value, SystemExit):
        show_traceback(broken.exc_value)


def printable(text: str) -> str:
    """`text` without anything that a terminal would act upon; after a carriage return, the last part."""
    return _ESCAPES.sub("", text.rstrip("\r").rpartition("\r")[2])


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout."""
    from rich import box
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(redacted(cell))) for cell in row))
    # into a file or a pipe: as wide as it needs to be
    console = RichConsole() if sys.stdout.isatty() else RichConsole(width=200, no_color=True)
    console.print(table)


def print_line(text: str) -> None:
    """A line on stdout."""
    sys.stdout.write(f"{printable(text)}\n")


def print_json(tree: Any) -> None:
    """A JSON document on stdout."""
    sys.stdout.write(json.dumps(redacted_tree(tree), indent=2, ensure_ascii=False) + "\n")

"""Terminal output: progress and logs on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TextIO

from jobrelay.errors import JobRelayError
from jobrelay.hints import Hint
from jobrelay.terminal import escaped_json, printable
from jobrelay_runner.text.redaction import redacted, redacted_tree

#: Minimum width of a value next to its name, in columns; with less, the value is printed on the next line.
_BESIDE = 14


class HasLine(Protocol):
    @property
    def line(self) -> str: ...


class Console:
    """Progress on a terminal. quiet: only errors and results. verbose: also waits and tracebacks."""

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
        self._complete = complete
        self._stderr = stderr or sys.stderr
        self._terminal = self._stderr.isatty()
        self._lock = threading.Lock()
        self._shown_wait = ""
        self._spinner: Any = None

    def complete(self, hint: Hint) -> str:
        """Return a hint as a command that the user can paste."""
        return self._complete(hint)

    def say(self, text: str) -> None:
        """Print a line of progress, unless quiet."""
        if not self.quiet:
            self._line(text)

    def detail(self, text: str) -> None:
        if self.verbose:
            self._line(text)

    def waiting(self, stage: str, text: str) -> None:
        """Show what a stage waits for: a spinner on a terminal, elsewhere a line per change."""
        if self.quiet or text == self._shown_wait:
            return
        self._shown_wait = text
        if self._terminal:
            self._spin(f"{stage}: {printable(redacted(text))}")
        elif self.verbose or ":" in text:  # a reason, not just a phase
            self._line(f"  {stage}: {text}")

    def running(self) -> None:
        """The stage no longer waits: stop the spinner."""
        self._shown_wait = ""
        self._stop_spinner()

    def submitted(self, stage: str, job: str, how: str) -> None:
        """A stage's Job exists: created, early, or from before (adopted, replaced, complete)."""
        if how == "complete":
            self.detail(f"  {stage}: Job {job} is complete already")
        elif how in ("adopted", "replaced"):
            shown = "re-attached to" if how == "adopted" else "runs again, replacing the earlier"
            self.say(f"  {stage}: {shown} Job {job}")

    def ended(self, stage: HasLine) -> None:
        """A stage has ended."""
        self.say(stage.line)

    def log_of(self, name: str) -> Callable[[bytes], None]:
        """A sink that prints a Pod's output, line by line, after its stage's name (`train`, `train.1`)."""
        rest = b""

        def show(chunk: bytes) -> None:
            nonlocal rest
            *whole, rest = (rest + chunk).split(b"\n")
            if whole and not self.quiet:
                shown = (f"{name:>5} │ {printable(line.decode('utf-8', 'replace'))}" for line in whole)
                self._write("\n".join(shown))

        return show

    def warn(self, text: str) -> None:
        """Print a line even if quiet."""
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
                console = RichConsole(file=self._stderr)
                turning = "dots" if console.encoding.startswith("utf") else "line"
                self._spinner = console.status(escape(text), spinner=turning)
                self._spinner.start()
            self._spinner.update(escape(text))

    def _stop_spinner(self) -> None:
        with self._lock:
            if self._spinner is not None:
                self._spinner.stop()
                self._spinner = None


def show_traceback(error: BaseException) -> None:
    """Print the traceback of `error` on stderr, with credentials redacted."""
    sys.stderr.write(redacted("".join(traceback.format_exception(error))))


@contextlib.contextmanager
def libraries_heard(*, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Redact what loggers, warnings and crashing threads write to stderr.

    JobRelay's warnings are shown unless quiet, those of libraries only if verbose, errors always.
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
        is_ours = record.name.partition(".")[0] == "jobrelay" and not self._quiet
        if record.levelno >= logging.ERROR or is_ours or self._verbose:
            Console().warn(f"{record.levelname.lower()}: {self.format(record)}")


def _thread_broke(broken: threading.ExceptHookArgs) -> None:
    if broken.exc_value is not None and not isinstance(broken.exc_value, SystemExit):
        show_traceback(broken.exc_value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; on a terminal too narrow for it, each row as a list of names and values."""
    from rich import box
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(redacted(cell))) for cell in row))
    # in a file or a pipe, the table is as wide as it needs to be
    if sys.stdout.isatty():
        columns_here, lines_here = shutil.get_terminal_size()  # rich takes 80 for a TERM=dumb
        console = RichConsole(width=columns_here, height=lines_here)
    else:
        console = RichConsole(width=200, no_color=True)
    if sys.stdout.isatty() and console.measure(table, options=_unlimited(console)).maximum > console.width:
        _print_lists(console, columns, rows)
    else:
        console.print(table)


def _unlimited(console: Any) -> Any:
    return console.options.update(width=10_000)


def _print_lists(console: Any, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    width = max(map(len, columns), default=0) + 2
    for row in rows:
        console.print()
        mark = ""  # the value of a column without a name; it goes before the next value
        shown = Table.grid(padding=(0, 2, 0, 0))
        for column, cell in zip(columns, (printable(redacted(cell)) for cell in row), strict=True):
            if not column:
                mark = cell
                continue
            text = f"{mark} {cell}" if mark else cell
            mark = ""
            if text and console.width - width >= _BESIDE:
                shown.add_row(Text(column), Text(text))
            elif text:
                console.print(Text(column), Padding(Text(text), (0, 0, 0, 2)), sep="\n")
        if shown.rows:
            console.print(shown)
        if mark:
            console.print(Text(mark))
    console.print()


def print_line(text: str) -> None:
    """Print a line on stdout."""
    sys.stdout.write(f"{printable(text)}\n")


def print_json(tree: Any) -> None:
    """Print a JSON document on stdout."""
    plain = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    text = json.dumps(redacted_tree(tree), indent=2, ensure_ascii=plain)
    sys.stdout.write(escaped_json(text) + "\n")

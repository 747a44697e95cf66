"""Write the page of a run or a sweep at its end; the modules for it are imported only here.

The page is optional: no failure to write it, not even a bug, may change the outcome of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jobrelay.console import Console
from jobrelay.errors import JobRelayError
from jobrelay.runs.report import RunReport


def prepare() -> None:
    """Import and compile what `keep_report` needs, while the launcher waits for something else."""
    with suppress(ImportError):  # keep_report reports it
        from jobrelay.report.command import RUN_TEMPLATE
        from jobrelay.report.page import template

        template(RUN_TEMPLATE)


def keep_report(report: RunReport, console: Console) -> None:
    """Write a run's outcome and its page to its folder; only report a failure."""

    def write() -> Path:
        from jobrelay.report.command import write_ended

        return write_ended(report, console.complete)

    _tell(write, console)


def keep_sweep_report(folder: Path, console: Console) -> None:
    """Write the page of the sweep in `folder`; only report a failure."""

    def write() -> Path:
        from jobrelay.report.command import write_sweep

        return write_sweep(folder)

    _tell(write, console)


def _tell(write: Callable[[], Path], console: Console) -> None:
    try:
        console.say(f"the report is {write()}")
    except Exception as error:
        why = error.what if isinstance(error, JobRelayError) else f"{type(error).__name__}: {error}"
        console.say(f"  no report was written: {why}")

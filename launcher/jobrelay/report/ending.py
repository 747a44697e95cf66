"""The page of a run or a sweep at its end: what that takes is imported here, and not before.

A page is a courtesy: nothing that hinders it, not even a fault of ours, may change how the run has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jobrelay.console import Console
from jobrelay.errors import JobRelayError
from jobrelay.runs.report import RunReport


def prepare() -> None:
    """Import and compile, while something else is waited for, what `keep_report` takes."""
    with suppress(ImportError):  # which will be told when it matters
        from jobrelay.report.command import RUN_TEMPLATE
        from jobrelay.report.page import template

        template(RUN_TEMPLATE)


def keep_report(report: RunReport, console: Console) -> None:
    """Put what has come of a run, and its page, beside its results. What hinders that is only told."""

    def write() -> Path:
        from jobrelay.report.command import write_ended

        return write_ended(report, console.complete)

    _tell(write, console)


def keep_sweep_report(folder: Path, console: Console) -> None:
    """Put the page of the sweep in `folder` there. What hinders that is only told."""

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

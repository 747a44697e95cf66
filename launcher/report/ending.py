"""The page of a run at its end: what that takes is imported here, and not before.

A page is a courtesy: nothing that hinders it, not even a fault of ours, may change how the run has ended.
"""

from __future__ import annotations

from contextlib import suppress

from launcher.console import Console
from launcher.errors import JobRelayError
from launcher.pipeline import RunReport


def prepare() -> None:
    """Import and compile, while something else is waited for, what `keep_report` takes."""
    with suppress(ImportError):  # which will be told when it matters
        from launcher.report.command import RUN_TEMPLATE
        from launcher.report.page import template

        template(RUN_TEMPLATE)


def keep_report(report: RunReport, console: Console) -> None:
    """Put what has come of a run, and its page, beside its results. What hinders that is only told."""
    try:
        from launcher.report.command import write_ended

        console.say(f"the report is {write_ended(report)}")
    except Exception as error:
        why = error.what if isinstance(error, JobRelayError) else f"{type(error).__name__}: {error}"
        console.say(f"  no report was written: {why}")

"""The output at the end of a run: the closing table or JSON, and the reason for a failure."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from jobrelay.console import Console, print_json, print_line, print_table
from jobrelay.errors import Exit, StageEnded
from jobrelay.figures import memory_quantity
from jobrelay.hints import SameAgain, of_run
from jobrelay.runs.outcome import outcome, suggestion
from jobrelay.runs.report import COLUMNS, RunReport, StageReport
from jobrelay.runs.sizing import requests_against_use
from jobrelay.runs.timeline import Timeline, rows
from jobrelay.terminal import printable
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.safe_read import open_regular

SIZE_COLUMNS = ("stage", "cpu used of requested", "memory used of requested", "next time")
LAST_LINES = 50
#: Read at most this much from the end of a log: a line may have any length.
_LAST_BYTES = 64 * 1024


def print_report(report: RunReport, *, output: str, console: Console) -> None:
    """Print the report; any verdict but success goes to stderr, with what to do next."""
    if console.quiet and output == "table":  # otherwise it was shown at the start
        print_line(f"run {report.run}  {report.folder}/")
    if output == "json":
        print_json(outcome(report, console.complete))
    else:
        print_table(COLUMNS, report.rows())
        if sized := [row for stage in report.stages if (row := _size_row(stage))]:
            print_table(SIZE_COLUMNS, sized)
        if console.verbose:
            print_timelines({stage.stage: stage.timeline for stage in report.stages})
    for stage in report.stages:
        for note in stage.notes:
            console.warn(f"  {stage.stage}: exit code 0, but {note.removeprefix('succeeded, but ')}")
    if report.verdict.exit_code != Exit.SUCCEEDED:
        log = _log_file(report, report.stages[-1])
        if log and console.quiet:  # otherwise it was shown as it arrived
            sys.stderr.write("".join(f"{printable(line)}\n" for line in _last_lines(log)))
        console.error(failure(report))
    elif report.incomplete:
        console.error(report.incomplete)
    elif all(stage.how == "complete" for stage in report.stages):
        again = console.complete(SameAgain("--new", run=report.run))
        console.say(f"all of run {report.run} was complete already; to run it again as a new one: {again}")


def print_timelines(timelines: Mapping[Stage, Timeline]) -> None:
    """Print where the time of each stage went."""
    print_table(("seconds after the Job was created", *timelines), rows(timelines))


def failure(report: RunReport) -> StageEnded:
    """The error with the reason why the last stage did not succeed."""
    stage = report.stages[-1]
    verdict = stage.verdict
    what = report.failure()
    if isinstance(verdict.hint, SameAgain):
        what += (
            "\n  train resumes from its last checkpoint"
            if stage.stage == "train"
            else f"\n  the stages before {stage.stage} are complete and are not run again"
        )
    log = _log_file(report, stage)
    if log:
        what += f"\n  its last lines are above; the whole log: {log}"
    return StageEnded(verdict.exit_code, what, of_run(verdict.hint, report.run))


def _last_lines(path: Path) -> list[str]:
    with open_regular(path) as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _LAST_BYTES))
        return log.read(_LAST_BYTES).decode("utf-8", "replace").splitlines()[-LAST_LINES:]


def _size_row(stage: StageReport) -> list[str]:
    """Requests against use of a stage; empty if its use is unknown."""
    if stage.resources is None:
        return []
    size = suggestion(stage)
    closing = stage.closing if stage.closing and not stage.closing.skipped else None
    if closing is None and not size:
        return []
    used = (
        requests_against_use(stage.resources, closing.cost)
        if closing
        else ["", f"more than {memory_quantity(stage.memory_limit)}"]
    )
    return [stage.stage, *used, size.beyond(stage.resources).settings(stage.stage) or "the same"]


def _log_file(report: RunReport, stage: StageReport) -> Path | None:
    path = report.folder / "logs" / f"{stage.stage}-{stage.verdict.pod}.log"
    return path if path.exists() and path.stat().st_size else None

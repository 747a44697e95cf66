"""The page of a run or a sweep, named or just ended, as a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from jobrelay.console import Console
from jobrelay.errors import BadInput, JobRelayError
from jobrelay.executors.base import JobReader
from jobrelay.hints import Command, Hint
from jobrelay.kube.objects import Object
from jobrelay.report import run as of_run
from jobrelay.report import sweep as of_sweep
from jobrelay.report.files import RunOutcome, StageOutcome, Unusable, read
from jobrelay.report.page import render
from jobrelay.runs import results, status
from jobrelay.runs.folder import OUTCOME, PAGE, belongs, owner_of
from jobrelay.runs.outcome import outcome, outcome_of_jobs
from jobrelay.runs.report import RunReport
from jobrelay.runs.target import Target
from jobrelay_runner.text.redaction import redacted_tree
from jobrelay_runner.volume.files import write_atomically, write_json
from jobrelay_runner.volume.paths import check_name
from jobrelay_runner.volume.records import read_records
from jobrelay_runner.volume.safe_read import RECORD_BYTES, read_bytes

RUN_TEMPLATE: Final = "run.html"
SWEEP_TEMPLATE: Final = "sweep.html"
#: Shorter than for a run: the page works without these answers.
_ASK_SECONDS: Final = 10


def make_report(target: Target, console: Console, name: str | None, file: Path | None) -> Path:
    """Write the page of a run or a sweep; fetch a run first if it is not here.

    name: a run, a sweep, or a folder of either; None: the newest run. file: None for report.html in its
    folder. Raises BadInput, ApiLost, EvidenceIncomplete.
    """
    folder = _folder(name) if name else None
    if folder and (folder / of_sweep.TABLE).exists():
        return write_sweep(folder, file)
    from_jobs = None
    if folder is None:
        executor = target.executor()
        run = name or status.newest_run(executor)
        folder = Path("runs") / run
        owner = owner_of(folder)
        if not _is_run(folder) or (owner and not belongs(folder, run, executor.place())):
            from_jobs = _outcome_from_jobs(executor, run)
            console.say(f"run {run} is not in {folder} yet: fetching it from {executor.place()}")
            results.fetch(executor, run, folder)
    if from_jobs is None and not (folder / OUTCOME).exists():
        from_jobs = _asked(target, console, folder)
    return _write(folder, file, from_jobs)


def write_ended(report: RunReport, complete: Callable[[Hint], str]) -> Path:
    """Write a run's outcome (report.json) and its page to its folder. Raises BadInput, OSError."""
    report.folder.mkdir(parents=True, exist_ok=True)
    _keep(report.folder / OUTCOME, outcome(report, complete))
    return _write(report.folder, None)


def write_sweep(folder: Path, file: Path | None = None) -> Path:
    """Write the page of the sweep in `folder`. Raises BadInput if that is not possible."""
    return _written(file or folder / PAGE, render(SWEEP_TEMPLATE, sweep=of_sweep.gather(folder, folder.name)))


def _write(folder: Path, file: Path | None, from_jobs: RunOutcome | None = None) -> Path:
    part = of_run.gather(folder, folder.name, from_jobs)
    return _written(file or folder / PAGE, render(RUN_TEMPLATE, run=part))


def _written(path: Path, page: str) -> Path:
    try:
        write_atomically(path, page)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written: {error.strerror}", "-o FILE names another place"
        ) from error
    return path


def _keep(path: Path, latest: Object) -> None:
    """Write report.json, but keep earlier entries of stages that were complete before this launch."""
    try:
        kept = read(path, RunOutcome)
    except Unusable:
        kept = None
    before = {each.stage: each for each in kept.stages} if kept else {}
    whole = (
        {stage["stage"]: stage for stage in json.loads(read_bytes(path, RECORD_BYTES))["stages"]}
        if kept
        else {}
    )
    now = {stage["stage"]: stage for stage in latest["stages"]}
    last = latest["stages"][-1]
    order = list(dict.fromkeys([*before, *now]))
    reached = order if last["verdict"]["exit_code"] == 0 else order[: order.index(last["stage"]) + 1]
    stages = []
    for stage in reached:
        if stage in now and not (stage in before and _only_looked(now[stage], before[stage])):
            stages.append(now[stage])
        elif stage in before:
            stages.append(whole[stage])
    write_json(path, redacted_tree({**latest, "stages": stages}))


def _only_looked(now: Object, before: StageOutcome) -> bool:
    """Whether a stage had succeeded before and this launch only found it complete."""
    found = now["how"] == "complete" or now["skipped"]
    return found and now["verdict"]["exit_code"] == 0 and before.verdict.exit_code == 0


def _folder(name: str) -> Path | None:
    """The local folder of the run or sweep of that name; None if there is none. Raises BadInput."""
    if "/" in name:
        folder = Path(name)
        if not _is_run(folder) and not (folder / of_sweep.TABLE).exists():
            raise BadInput(f"{name} is not the folder of a run or a sweep", "give its name, or its folder")
        return folder
    try:
        check_name(name, "run or sweep")
    except ValueError as error:
        raise BadInput(str(error)) from error
    run, sweep = Path("runs") / name, Path("sweeps") / name
    is_sweep = (sweep / of_sweep.TABLE).exists()
    if is_sweep and _is_run(run):
        raise BadInput(f"{name} is a run ({run}/) and a sweep ({sweep}/)", Command("report", f"{run}/"))
    return sweep if is_sweep else run if _is_run(run) else None


def _is_run(folder: Path) -> bool:
    """Whether the folder has files of a run: its outcome, or a stage's record."""
    return (folder / OUTCOME).exists() or bool(read_records(folder, root=folder))


def _asked(target: Target, console: Console, folder: Path) -> RunOutcome | None:
    """_outcome_from_jobs for a run that is here; if the Jobs cannot be read, report that and return None."""
    patient = replace(target, api_timeout=min(target.api_timeout or _ASK_SECONDS, _ASK_SECONDS))
    run = folder.name
    try:
        executor = patient.executor()
        owner = owner_of(folder)
        if owner and owner.place != executor.place():  # Jobs of that name belong to another run
            console.say(f"  {folder} belongs to {owner.place}, whose Jobs were not read")
            return None
        return _outcome_from_jobs(executor, run)
    except JobRelayError as error:
        console.say(f"  the Jobs of run {run} could not be read: {error.what}")
        return None


def _outcome_from_jobs(executor: JobReader, run: str) -> RunOutcome | None:
    """The outcome of a run from its Jobs; None if there are none. Raises ApiLost."""
    from_jobs = RunOutcome.model_validate(outcome_of_jobs(executor, run))
    return from_jobs if from_jobs.stages else None

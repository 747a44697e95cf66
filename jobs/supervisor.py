"""The parent of a stage: keeps its log, passes signals on, and writes down how it ended.

The stage runs in a forked child, so that whatever happens to it (a crash of native code, the
kernel's out-of-memory killer), somebody is left to drain the log and to write the record. As
PID 1 of a container the supervisor also reaps orphans.
"""

from __future__ import annotations

import platform
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs import __version__
from jobs.assignment import Assignment
from jobs.contract import exit_codes
from jobs.contract.files import write_atomically
from jobs.contract.record import (
    Closing,
    Cost,
    FileProof,
    Record,
    RecordError,
    differing,
    read_record,
)
from jobs.errors import BadInput, Failed, StageError, from_os_error
from jobs.meter import Meter
from jobs.process import StageProcess, hold_signals
from jobs.tee import Tee


def supervise(assignment: Assignment, termination: Path | None = None) -> int:
    """Run the stage to its end and return the exit code of this process.

    The record is written to the run's folder and its short form to `termination`. A stage that is
    done already is not run again.
    """
    hold_signals()
    meter = Meter.start()
    try:
        tee = _open_log(assignment)
    except StageError as error:
        return _refuse(assignment, error, termination)
    previous = _previous_record(assignment, tee)
    if previous is not None and _is_done(assignment, previous, tee):
        tee.say(
            f"{assignment.stage}: nothing to do, done already on {previous.finished} by {previous.pod}; "
            f"all {len(previous.outputs)} files are as its record says"
        )
        return _close(assignment, tee, meter, termination, Ending(0, previous.metrics, skipped=True))
    running = Record(
        run=assignment.folder.run,
        stage=assignment.stage,
        status="running",
        pod=assignment.pod,
        attempt=_attempt(assignment, previous),
        config_hash=assignment.config_hash,
        started=_now(),
    )
    if running.attempt > 1:
        tee.say(f"{assignment.stage}: attempt {running.attempt}")
    try:
        _write(assignment, running)
        stage = StageProcess(assignment, tee)
    except OSError as error:
        known = from_os_error(error, assignment.folder.path)
        if known is None:
            raise
        tee.say(f"{assignment.stage}: {known}")
        return _close(assignment, tee, meter, termination, Ending(known.exit_code, error=str(known)))
    code = stage.wait()
    return _finish(assignment, tee, meter, termination, running, code, stage.report())


@dataclass(frozen=True)
class Ending:
    """What the last words are made of."""

    exit_code: int
    metrics: Mapping[str, float] | None = None
    error: str | None = None
    skipped: bool = False


def _open_log(assignment: Assignment) -> Tee:
    """Make the run's folder and the log in it. Raises StageError if the volume refuses."""
    folder = assignment.folder
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        return Tee(folder, assignment.stage, assignment.pod, descriptor=sys.stdout.fileno())
    except OSError as error:
        if isinstance(error, NotADirectoryError | FileExistsError):
            raise BadInput(f"{error.filename} is in the way: a folder is expected there") from error
        raise from_os_error(error, folder.path) or Failed(f"cannot use {folder.path}: {error}") from error


def _refuse(assignment: Assignment, error: StageError, termination: Path | None) -> int:
    """The volume cannot even hold a log: there is only the container's own."""
    print(f"{assignment.stage}: {error}", file=sys.stderr)
    leave_message(termination, f"{assignment.stage}: {error}")
    return error.exit_code


def _previous_record(assignment: Assignment, tee: Tee) -> Record | None:
    try:
        return read_record(assignment.folder.record(assignment.stage))
    except RecordError as error:
        tee.say(f"{assignment.stage}: {error}; going on as if there were none")
        return None


def _attempt(assignment: Assignment, previous: Record | None) -> int:
    if previous is None or previous.config_hash != assignment.config_hash or previous.status == "succeeded":
        return 1
    return previous.attempt + 1


def _is_done(assignment: Assignment, record: Record, tee: Tee) -> bool:
    """Whether this very work is done and all of it still there."""
    if record.status != "succeeded" or record.config_hash != assignment.config_hash:
        return False
    changed = differing(assignment.folder.path, {**record.inputs, **record.outputs})
    if changed:
        tee.say(f"{assignment.stage}: done before, but {', '.join(changed)} changed since; doing it again")
    return not changed


def _finish(
    assignment: Assignment,
    tee: Tee,
    meter: Meter,
    termination: Path | None,
    running: Record,
    code: int,
    report: dict[str, Any],
) -> int:
    """Write the record of a stage that has ended, then the last words. Returns the exit code."""
    error = report.get("error")
    if code > 128 and error is None:
        error = _killed_by(code - 128, meter.cost())
        tee.say(f"{assignment.stage}: {error}")
    elif code == 0 and "outputs" not in report:
        code, error = exit_codes.FAILED, "ended without saying what it has done"
        tee.say(f"{assignment.stage}: {error}")
    log = tee.proof()
    record = running.model_copy(
        update={
            "status": "succeeded" if code == 0 else "failed",
            "finished": _now(),
            "exit_code": code,
            "error": "; ".join(filter(None, [error, tee.problem])) or None,
            "inputs": {name: FileProof.model_validate(it) for name, it in report.get("inputs", {}).items()},
            "outputs": {name: FileProof.model_validate(it) for name, it in report.get("outputs", {}).items()},
            "metrics": report.get("metrics", {}),
            "log": log,
            "cost": meter.cost(),
            "versions": {
                "jobrelay": __version__,
                "python": platform.python_version(),
                **report.get("versions", {}),
            },
        }
    )
    ending = Ending(code, record.metrics, record.error)
    try:
        _write(assignment, record)
    except OSError as problem:
        known = from_os_error(problem, assignment.folder.path) or problem
        tee.say(f"{assignment.stage}: cannot write the record: {known}")
        ending = Ending(code or exit_codes.FAILED, record.metrics, f"cannot write the record: {known}")
    return _close(assignment, tee, meter, termination, ending)


def _killed_by(number: int, cost: Cost) -> str:
    if number != signal.SIGKILL:
        return f"killed by signal {number} ({signal.strsignal(number)})"
    text = "killed by signal 9 (out of memory?)"
    if cost.memory_limit_bytes is None:
        return text
    gib = 1024**3
    return (
        f"{text}; peak {cost.peak_memory_bytes / gib:.2f} GiB, limit {cost.memory_limit_bytes / gib:.2f} GiB"
    )


def _close(assignment: Assignment, tee: Tee, meter: Meter, termination: Path | None, ending: Ending) -> int:
    """Leave the termination message. Returns the exit code."""
    closing = Closing(
        stage=assignment.stage,
        exit_code=ending.exit_code,
        skipped=ending.skipped,
        error=ending.error,
        metrics=dict(ending.metrics or {}),
        log=tee.proof(),
        cost=meter.cost(),
    )
    leave_message(termination, closing.message())
    return ending.exit_code


def leave_message(path: Path | None, message: str) -> None:
    """Write the Pod's termination message. The file is a mount: it is written in place, not replaced."""
    if path is None:
        return
    try:
        path.write_text(message, encoding="utf-8")
    except OSError as error:
        print(f"cannot write the termination message: {error}", file=sys.stderr)


def _write(assignment: Assignment, record: Record) -> None:
    write_atomically(assignment.folder.record(assignment.stage), record.model_dump_json(indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

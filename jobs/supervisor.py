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
        # The volume cannot even hold a log: there is only the container's own.
        print(f"{assignment.stage}: {error}", file=sys.stderr)
        leave_message(termination, f"{assignment.stage}: {error}")
        return error.exit_code
    return _Supervisor(assignment, tee, meter, termination).run()


@dataclass(frozen=True)
class _Supervisor:
    assignment: Assignment
    tee: Tee
    meter: Meter
    termination: Path | None

    def run(self) -> int:
        previous = self._previous_record()
        if previous is not None and self._is_done(previous):
            self._say(
                f"nothing to do, done already on {previous.finished} by {previous.pod}; "
                f"all {len(previous.outputs)} files are as its record says"
            )
            return self._close(exit_codes.SUCCEEDED, previous.metrics, skipped=True)
        running = self._begin(previous)
        try:
            self._write(running)
            process = StageProcess(self.assignment, self.tee)
        except OSError as error:
            known = from_os_error(error, self.assignment.folder.path)
            if known is None:
                raise
            self._say(str(known))
            return self._close(known.exit_code, error=str(known))
        code = process.wait()
        return self._finish(running, code, process.report())

    def _previous_record(self) -> Record | None:
        try:
            return read_record(self.assignment.folder.record(self.assignment.stage))
        except RecordError as error:
            self._say(f"{error}; going on as if there were none")
            return None

    def _is_done(self, record: Record) -> bool:
        """Whether this very work is done and all of it still there."""
        if record.status != "succeeded" or record.config_hash != self.assignment.config_hash:
            return False
        changed = differing(self.assignment.folder.path, {**record.inputs, **record.outputs})
        if changed:
            self._say(f"done before, but {', '.join(changed)} changed since; doing it again")
        return not changed

    def _begin(self, previous: Record | None) -> Record:
        """The record of a stage that runs; its attempt is counted from the last one that did not succeed."""
        config_hash = self.assignment.config_hash
        attempt = 1
        if previous is not None and previous.config_hash == config_hash and previous.status != "succeeded":
            attempt = previous.attempt + 1
            self._say(f"attempt {attempt}")
        return Record(
            run=self.assignment.folder.run,
            stage=self.assignment.stage,
            status="running",
            pod=self.assignment.pod,
            attempt=attempt,
            config_hash=config_hash,
            started=_now(),
        )

    def _finish(self, running: Record, code: int, report: dict[str, Any]) -> int:
        """Write the record of a stage that has ended, then the last words. Returns the exit code."""
        error = report.get("error")
        if error is None and (code != 0 or "outputs" not in report):
            # It could not speak for itself.
            error = _unexplained(code, self.meter.cost())
            self._say(error)
            code = code or exit_codes.FAILED
        record = running.model_copy(
            update={
                "status": "succeeded" if code == 0 else "failed",
                "finished": _now(),
                "exit_code": code,
                "log": self.tee.proof(),
                "error": "; ".join(filter(None, [error, self.tee.problem])) or None,
                "inputs": _proofs(report.get("inputs", {})),
                "outputs": _proofs(report.get("outputs", {})),
                "metrics": report.get("metrics", {}),
                "cost": self.meter.cost(),
                "versions": {
                    "jobrelay": __version__,
                    "python": platform.python_version(),
                    **report.get("versions", {}),
                },
            }
        )
        try:
            self._write(record)
        except OSError as problem:
            text = (
                f"cannot write the record: {from_os_error(problem, self.assignment.folder.path) or problem}"
            )
            self._say(text)
            return self._close(code or exit_codes.FAILED, record.metrics, error=text)
        return self._close(code, record.metrics, error=record.error)

    def _close(
        self,
        code: int,
        metrics: Mapping[str, float] | None = None,
        *,
        error: str | None = None,
        skipped: bool = False,
    ) -> int:
        """Leave the termination message. Returns the exit code."""
        closing = Closing(
            stage=self.assignment.stage,
            exit_code=code,
            skipped=skipped,
            error=error,
            metrics=dict(metrics or {}),
            log=self.tee.proof(),
            cost=self.meter.cost(),
        )
        self.tee.close()
        leave_message(self.termination, closing.message())
        return code

    def _write(self, record: Record) -> None:
        path = self.assignment.folder.record(self.assignment.stage)
        write_atomically(path, record.model_dump_json(indent=2) + "\n")

    def _say(self, text: str) -> None:
        self.tee.say(f"{self.assignment.stage}: {text}")


def leave_message(path: Path | None, message: str) -> None:
    """Write the Pod's termination message. The file is a mount: it is written in place, not replaced."""
    if path is None:
        return
    try:
        path.write_text(message, encoding="utf-8")
    except OSError as error:
        print(f"cannot write the termination message: {error}", file=sys.stderr)


def _open_log(assignment: Assignment) -> Tee:
    """Make the run's folder and the log in it. Raises StageError if the volume refuses."""
    folder = assignment.folder
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        return Tee(folder, assignment.stage, assignment.pod, descriptor=sys.stdout.fileno())
    except (NotADirectoryError, FileExistsError) as error:
        raise BadInput(f"{error.filename} is in the way: a folder is expected there") from error
    except OSError as error:
        raise from_os_error(error, folder.path) or Failed(f"cannot use {folder.path}: {error}") from error


def _unexplained(code: int, cost: Cost) -> str:
    """What can be said of a stage that ended without a report."""
    number = code - 128
    if number == signal.SIGKILL:
        text = "killed by signal 9 (out of memory?)"
        if cost.memory_limit_bytes is not None:
            gib = 1024**3
            peak, limit = cost.peak_memory_bytes / gib, cost.memory_limit_bytes / gib
            text += f"; peak {peak:.2f} GiB, limit {limit:.2f} GiB"
        return text
    if number in signal.valid_signals():
        return f"killed by signal {number} ({signal.strsignal(number)})"
    return f"ended with exit code {code} without a word about why"


def _proofs(told: Mapping[str, Any]) -> dict[str, FileProof]:
    return {name: FileProof.model_validate(proof) for name, proof in told.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

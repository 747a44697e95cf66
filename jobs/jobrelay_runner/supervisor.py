"""The parent of a stage: keeps its log, passes signals on, and records how it ended.

The stage runs in a forked child, so that whatever happens to it (a crash of native code, the
kernel's out-of-memory killer), the supervisor can still drain the log and write the record. As
PID 1 of a container the supervisor also reaps orphans.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobrelay_runner import exit_codes
from jobrelay_runner.context import Observed, Program, StageContext
from jobrelay_runner.errors import (
    BadInput,
    Failed,
    StageError,
    Terminated,
    from_os_error,
    in_the_way,
)
from jobrelay_runner.fence import ClosedFence, WriterFence
from jobrelay_runner.log import StageLog
from jobrelay_runner.process import StageProcess, hold_signals
from jobrelay_runner.recording import Recorder
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.stages import Stage
from jobrelay_runner.termination import LastWords, leave_message, out_of_memory, unexplained
from jobrelay_runner.text.counting import counted
from jobrelay_runner.text.redaction import redacted
from jobrelay_runner.usage.meter import Usage
from jobrelay_runner.usage.timeline import mark, moments
from jobrelay_runner.volume.files import make_folder
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import (
    Record,
)

if TYPE_CHECKING:
    from jobrelay_runner.order.gate import Gate

#: 128 + n is the end by signal n.
_SIGNALS: Final = 128


def supervise(
    stage: Stage,
    program: Program[Any],
    folder: RunFolder,
    pod: str,
    termination: Path | None = None,
    index: int = 0,
    gate: Gate | None = None,
) -> int:
    """Run the stage to its end and return the exit code of this process.

    gate: for a stage that was started early, which does nothing before the gate opens.

    The supervisor writes the record to the run's folder and its short form to `termination`. It does not
    run a stage again that is already done, and supersedes any other process of the same stage.
    In a stage of several Pods, only Pod 0 does all this; the others take part and follow it.
    """
    hold_signals()
    mark("begun")
    meter = Usage.start()
    try:
        tee = _open_log(folder, stage, pod)
    except StageError as error:
        # The volume cannot even hold a log: only the container's log is left.
        print(f"{stage}: {error}", file=sys.stderr)
        leave_message(termination, f"{stage}: {error}")
        return error.exit_code
    last_words = LastWords(stage, tee, meter, termination)
    try:
        fence = ClosedFence.around(folder, stage) if index else WriterFence.claim(folder, stage, pod)
        try:
            context = StageContext(stage, program, folder, pod, fence, index)
            waiting = None
            if gate:
                from jobrelay_runner.order.early import process_at_the_gate

                waiting = process_at_the_gate(context, gate, last_words)
            if waiting:
                last_words = replace(last_words, meter=meter.from_now_on(waiting.cpu_seconds()))
            return _Supervisor(context, last_words).run(waiting)
        finally:
            fence.release()
    except (StageError, OSError) as error:
        known = from_os_error(error, folder.path) if isinstance(error, OSError) else error
        if known is None:
            raise
        last_words.say(str(known))
        return last_words.close(known.exit_code, error=str(known))


@dataclass(frozen=True)
class _Supervisor:
    context: StageContext[Any]
    last_words: LastWords

    @property
    def recorder(self) -> Recorder:
        return Recorder(self.context, self.last_words)

    def run(self, waiting: StageProcess | None = None) -> int:
        """Run the stage. Raises OSError if the volume refuses, Superseded if another process took over.

        waiting: the stage's process, if it has already been started.
        """
        previous = self.recorder.previous()
        if previous is not None and self.recorder.is_done(previous):
            device = f", on {previous.means['device']}" if "device" in previous.means else ""
            self.last_words.say(
                f"nothing to do: done on {previous.finished} by {previous.pod}{device}; "
                f"{counted(len(previous.outputs), 'file')} as its record says"
            )
            if waiting:
                waiting.dismiss()
            return self.last_words.close(exit_codes.SUCCEEDED, previous.metrics, skipped=True)
        if self.context.index:
            return self._follow()
        running = self.recorder.begin(previous)
        self.recorder.write(running)
        observed: Observed | None = None
        if self.context.program.observe:
            try:
                observed = self.context.program.observe(self.context, previous)
            except StageError as error:
                self.last_words.say(str(error))
                if waiting:
                    waiting.dismiss()
                return self._finish(running, error.exit_code, {"error": str(error)})
        process = waiting or self._process()
        process.let_go()
        code = process.wait(self.context.program.limit_seconds)
        report = process.report()
        if observed and not report:
            code, report = self._observed(code, observed, process.moments)
        return self._after(process)._finish(running, code, report)

    def _observed(
        self, code: int, observed: Observed, passed: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Return the exit code of this process, and the report on a command that makes none of its own.

        A command's exit codes are its own: those that the launcher would read as the runner's become 1.
        """
        last, meter = self.last_words.tee.last_line(), self.last_words.meter
        report = {**observed(code), "moments": passed}
        for note in report.pop("notes", ()):
            self.last_words.say(note)
        if code >= _SIGNALS or (code and meter.oom_kills()):
            report["error"] = unexplained(code, meter)
        elif code:
            report["error"] = f"ended with exit code {code}" + (f": {redacted(last)}" if last else "")
        return (exit_codes.FAILED if code in exit_codes.OURS else code), report

    def _process(self) -> StageProcess:
        return StageProcess(self.context, self.last_words.tee, self.last_words.meter)

    def _after(self, process: StageProcess) -> _Supervisor:
        """Return this supervisor with the cost counted from the start of the work of `process`."""
        meter = process.meter_of_the_work or self.last_words.meter
        return replace(self, last_words=replace(self.last_words, meter=meter))

    def _follow(self) -> int:
        """Take part in the stage; it has succeeded once the record of Pod 0 says so.

        Raises PeerLost if Pod 0 ends otherwise: Kubernetes would not restart a Pod that had already
        succeeded, and the next attempt needs all of them.
        """
        process = self._process()
        process.let_go()
        code = process.wait(self.context.program.limit_seconds)
        return self._after(process)._followed(process, code)

    def _followed(self, process: StageProcess, code: int) -> int:
        report = process.report()
        if self.context.program.observe and not report:  # what it wrote is in the record of Pod 0
            code, report = self._observed(code, lambda code: {"outputs": {}}, process.moments)
        code, error = self._explained(code, report)
        if code == exit_codes.SUCCEEDED:
            StopRequest().install()  # before the check, so that no signal falls between the two
            if process.told_to_stop and not process.ended_at_its_limit:
                raise Terminated("stopped by SIGTERM")
            from jobrelay_runner.order.follow import wait_for_the_record

            wait_for_the_record(self.context)
        return self.last_words.close(code, error=self._with_trouble(error))

    def _finish(self, running: Record, code: int, report: dict[str, Any]) -> int:
        """Write the record of a stage that has ended, then the last words. Returns the exit code.

        Raises Superseded however the stage itself ended: its successor's outcome is the one that counts.
        """
        error = report.get("error")
        if code == exit_codes.SUPERSEDED and error is not None:  # the stage noticed it by itself
            return self.last_words.close(code, error=error)
        self.context.fence.check()
        code, error = self._explained(code, report)
        record = self.recorder.ended(running, code, self._with_trouble(error), report)
        try:
            self.recorder.write(record)
        except OSError as problem:
            text = f"cannot write the record: {from_os_error(problem, self.context.folder.path) or problem}"
            self.last_words.say(text)
            return self.last_words.close(code or exit_codes.FAILED, record.metrics, error=text)
        mark("recorded")
        return self.last_words.close(
            code, record.metrics, moments={**record.moments, **moments()}, error=record.error
        )

    def _explained(self, code: int, report: Mapping[str, Any]) -> tuple[int, str | None]:
        """Return the stage's exit code and an explanation; None for a success with nothing to report."""
        error = report.get("error")
        meter = self.last_words.meter
        if error is None and (code != 0 or "outputs" not in report):
            # the stage ended without a report
            error = unexplained(code, meter)
            self.last_words.say(error)
            code = code or exit_codes.FAILED
        elif meter.oom_kills():  # one of its workers was killed, which the stage may not have noticed
            self.last_words.say(out_of_memory(meter))
            error = "; ".join(filter(None, [error, out_of_memory(meter)]))
        return code, error

    def _with_trouble(self, error: str | None) -> str | None:
        """Return the error, with the log's problem if there is one."""
        return "; ".join(filter(None, [error, self.last_words.tee.problem])) or None


def _open_log(folder: RunFolder, stage: Stage, pod: str) -> StageLog:
    """Create the run's folder and the log in it. Raises StageError if the volume refuses."""
    try:
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        make_folder(folder.path)
        return StageLog(folder, stage, pod, descriptor=sys.stdout.fileno())
    except (NotADirectoryError, FileExistsError) as error:
        raise BadInput(in_the_way(error.filename)) from error
    except OSError as error:
        raise from_os_error(error, folder.path) or Failed(f"cannot use {folder.path}: {error}") from error

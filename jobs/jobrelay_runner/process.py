"""The stage's process as its parent sees it: fork, output, signals, end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

from jobrelay_runner import exit_codes, worker
from jobrelay_runner.context import StageContext
from jobrelay_runner.log import StageLog
from jobrelay_runner.text.redaction import redacted
from jobrelay_runner.usage.meter import Usage

#: Of the output that is copied at once: a stage that prints much waits less.
_BLOCK: Final = 256 * 1024
#: How long processes that the stage left behind may keep printing before they are killed.
STRAGGLER_SECONDS: Final = 2.0

#: The same once SIGTERM has reached them: a shell ends at once, and its commands save their work.
_STOPPING_SECONDS: Final = 10.0

#: How often to check whether another process has taken over. A superseded training writes nothing,
#: but would keep the CPUs and memory busy until its next checkpoint.
FENCE_SECONDS: Final = 5.0

#: CPUCLOCK_SCHED of the kernel's include/linux/posix-timers_types.h: all threads of a process
_CPU_CLOCK: Final = 2
_HANDLED: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


#: How long a stage may take to end, once it is asked to.
_GRACE_SECONDS: Final = 10.0


def _until(limit: float | None) -> float:
    """Seconds to the next look at the fence, or at the limit if that is sooner."""
    return FENCE_SECONDS if limit is None else max(0.0, min(FENCE_SECONDS, limit - time.monotonic()))


def hold_signals() -> None:
    """Block signals until they can be passed on to the stage's process.

    A blocked signal stays pending even for PID 1; otherwise the kernel discards any signal for which
    PID 1 has no handler.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)


class StageProcess:
    """The forked child, its output and its report. It imports at once, and works after `let_go`."""

    def __init__(self, context: StageContext[Any], tee: StageLog, meter: Usage) -> None:
        self._tee = tee
        self._meter = meter
        #: cost of the work, without the imports before it; None until the work starts
        self.meter_of_the_work: Usage | None = None
        #: when the imports were done and the work started
        self.moments: dict[str, str] = {}
        self._stage = context.stage
        self._fence = context.fence
        #: a command may be a shell, which does not pass the signal on
        self._is_command = context.program.observe is not None
        #: whether SIGTERM or SIGINT has arrived; the stage may already have ended by then
        self.told_to_stop = False
        self.ended_at_its_limit = False
        self._status: int | None = None
        self._report = bytearray()
        output, output_end = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # Python 3.10, on Linux
            with contextlib.suppress(OSError):  # the limit for this user is reached
                fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, _BLOCK)
        report, report_end = os.pipe()
        go_end, self._go = os.pipe()
        self._wake, wake_end = os.pipe()
        os.set_blocking(wake_end, False)
        hold_signals()  # until both processes have their handlers
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                for descriptor in (output, report, self._go, self._wake, wake_end):
                    os.close(descriptor)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                code = worker.run(context, go_end, output_end, report_end)
            except BaseException:
                sys.stderr.write(redacted(traceback.format_exc()))
            finally:
                os._exit(code)  # skip the parent's buffers and exit handlers, which the parent runs itself
        os.close(go_end)
        os.close(output_end)
        os.close(report_end)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only wakes the select
        # The handler itself passes the signal on: that works even while standard output blocks.
        signal.signal(signal.SIGTERM, lambda *_: self._pass_on())
        signal.signal(signal.SIGINT, lambda *_: self._pass_on())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        self._pipes = selectors.DefaultSelector()
        self._pipes.register(output, selectors.EVENT_READ, self._tee.write)
        self._pipes.register(report, selectors.EVENT_READ, self._hear)
        self._pipes.register(self._wake, selectors.EVENT_READ, None)

    def _hear(self, content: bytes) -> None:
        """Take in a part of the report; its first line arrives when the work starts."""
        self._report.extend(content)
        if self.meter_of_the_work is None and b"\n" in self._report:
            line, _, self._report = self._report.partition(b"\n")
            started = json.loads(line)
            self.meter_of_the_work = self._meter.from_now_on(started["cpu_seconds"])
            self.moments = started["moments"]

    def hold_until(self, is_over: Callable[[], bool], seconds: float) -> bool:
        """Copy the output until `is_over`, checked every `seconds`. False: the stage ended first."""
        while not is_over():
            self._copy(seconds)
            if self._status is not None:
                return False
        return True

    def was_terminated(self) -> bool:
        """Whether the stage ended because it was asked to stop."""
        return self._status is not None and self._exit_code(self._status) == exit_codes.TERMINATED

    def let_go(self) -> None:
        """Let the work start."""
        with contextlib.suppress(BrokenPipeError):  # it ended during its imports; `wait` returns how
            os.write(self._go, b"!")
        os.close(self._go)

    def cpu_seconds(self) -> float:
        """CPU seconds that the stage has used so far; 0 where the system does not report them (macOS)."""
        try:
            return time.clock_gettime(~self._pid << 3 | _CPU_CLOCK)
        except OSError:
            return 0.0

    def dismiss(self) -> None:
        """End the stage's process without any work; return when it is gone."""
        os.close(self._go)
        self.wait()

    def wait(self, limit_seconds: float | None = None) -> int:
        """Copy the output until the stage has ended and all output is read. Returns 128 + n for signal n.

        Kills the stage if another process has taken over. limit_seconds: after which the stage is ended, and
        0 is returned.
        """
        ended: float | None = None
        limit = None if limit_seconds is None else time.monotonic() + limit_seconds
        looked = time.monotonic()
        killed = False
        while True:
            self._copy(0.2 if ended is not None else _until(limit))
            if self._status is None:
                if limit is not None and time.monotonic() >= limit:
                    limit = self._end_at_the_limit()
                if time.monotonic() - looked > FENCE_SECONDS:
                    looked = time.monotonic()
                    if self._fence.is_lost():
                        os.kill(self._pid, signal.SIGKILL)
                continue
            ended = time.monotonic() if ended is None else ended
            if len(self._pipes.get_map()) == 1:  # only the wake-up pipe is still open
                break
            patience = _STOPPING_SECONDS if self._is_command and self.told_to_stop else STRAGGLER_SECONDS
            if time.monotonic() - ended > patience + STRAGGLER_SECONDS:
                # A process left the process group and holds the pipe open; it cannot be found from here.
                self._tee.say(
                    f"{self._stage}: a process that outlived the stage still holds its output; left alone"
                )
                break
            if time.monotonic() - ended > patience and not killed:
                killed = self._kill_stragglers()
        self._kill_stragglers()
        return 0 if self.ended_at_its_limit else self._exit_code(self._status)

    def _end_at_the_limit(self) -> float:
        """Ask the stage to end; the second time, kill it. Return when to look again."""
        if self.ended_at_its_limit:
            self._kill_stragglers()
        else:
            self.ended_at_its_limit = True
            self._tee.say(f"{self._stage}: its time is over; it ends here, as on_timeout says")
            self._pass_on()
        return time.monotonic() + _GRACE_SECONDS

    def report(self) -> dict[str, Any]:
        """Return the child's final report; empty if it ended without one."""
        try:
            report = json.loads(self._report)
        except ValueError:
            return {}
        return report if isinstance(report, dict) else {}

    @staticmethod
    def _exit_code(status: int) -> int:
        """Return the exit code, 128 + n for signal n."""
        return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def _copy(self, seconds: float) -> None:
        """Copy what can be read within `seconds`, then reap the processes that have ended."""
        for key, _ in self._pipes.select(timeout=seconds):
            content = os.read(key.fd, _BLOCK)
            if key.data is not None and content:
                key.data(content)
            elif not content:
                self._pipes.unregister(key.fd)
                os.close(key.fd)
        self._reap()

    def _reap(self) -> None:
        """Reap the processes that have ended: the stage and, as PID 1, any orphan."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._status = status

    def _pass_on(self) -> None:
        self.told_to_stop = True
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):  # it is just being reaped
                try:
                    (os.killpg if self._is_command else os.kill)(self._pid, signal.SIGTERM)
                except (
                    ProcessLookupError,
                    PermissionError,
                ):  # no group yet; one of its processes is another user's
                    os.kill(self._pid, signal.SIGTERM)

    def _kill_stragglers(self) -> bool:
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # PermissionError: macOS, for a group of zombies
            return True
        return True

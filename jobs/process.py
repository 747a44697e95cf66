"""The process of a stage, seen from its parent: fork, output, signals, end."""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
import traceback
from typing import Any, Final

from jobs import child
from jobs.assignment import Assignment
from jobs.tee import Tee

#: How long processes that the stage left behind may still print before they are killed.
STRAGGLER_SECONDS: Final = 2.0

#: How often it is asked whether another process has taken over. A training that has been superseded
#: writes nothing, but until its next checkpoint it would keep the processors and memory busy.
FENCE_SECONDS: Final = 5.0

_HANDLED: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


def hold_signals() -> None:
    """Let signals wait until the stage's process can be told of them.

    A signal that is blocked stays pending even for PID 1, to which the kernel else delivers
    nothing that it has no handler for.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)


class StageProcess:
    """The forked child, its output and its report."""

    def __init__(self, assignment: Assignment, tee: Tee) -> None:
        self._tee = tee
        self._stage = assignment.stage
        self._fence = assignment.fence
        #: whether SIGTERM or SIGINT has come; the stage may have been at its end already
        self.told_to_stop = False
        self._status: int | None = None
        self._report = bytearray()
        output, output_end = os.pipe()
        report, report_end = os.pipe()
        self._wake, wake_end = os.pipe()
        os.set_blocking(wake_end, False)
        hold_signals()  # until both processes have their handlers
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                for descriptor in (output, report, self._wake, wake_end):
                    os.close(descriptor)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                code = child.run(assignment, output_end, report_end)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)  # nothing of the parent's is to be flushed or cleaned up twice
        os.close(output_end)
        os.close(report_end)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be woken
        # Straight from the handler: it works even while standard output blocks.
        signal.signal(signal.SIGTERM, lambda *_: self._pass_on())
        signal.signal(signal.SIGINT, lambda *_: self._pass_on())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        self._pipes = selectors.DefaultSelector()
        self._pipes.register(output, selectors.EVENT_READ, self._tee.write)
        self._pipes.register(report, selectors.EVENT_READ, self._report.extend)
        self._pipes.register(self._wake, selectors.EVENT_READ, None)

    def wait(self) -> int:
        """Copy the output until the stage has ended and all of it is read. Returns 128 + n for signal n.

        A stage that another process has taken over is killed.
        """
        ended: float | None = None
        looked = time.monotonic()
        killed = False
        while True:
            for key, _ in self._pipes.select(timeout=0.2 if ended is not None else FENCE_SECONDS):
                content = os.read(key.fd, 65536)
                if key.data is not None and content:
                    key.data(content)
                elif not content:
                    self._pipes.unregister(key.fd)
                    os.close(key.fd)
            self._reap()
            if self._status is None:
                if time.monotonic() - looked > FENCE_SECONDS:
                    looked = time.monotonic()
                    if self._fence.is_lost():
                        os.kill(self._pid, signal.SIGKILL)
                continue
            ended = time.monotonic() if ended is None else ended
            if len(self._pipes.get_map()) == 1:  # all but the wake-up pipe are at their end
                break
            if time.monotonic() - ended > 2 * STRAGGLER_SECONDS:
                # It left the process group and holds the pipe open: not ours to find.
                self._tee.say(
                    f"{self._stage}: a process that outlived the stage still holds its output; left alone"
                )
                break
            if time.monotonic() - ended > STRAGGLER_SECONDS and not killed:
                killed = self._kill_stragglers()
        self._kill_stragglers()
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code

    def report(self) -> dict[str, Any]:
        """What the child said at its end; empty if it did not come to that."""
        try:
            told = json.loads(self._report)
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    def _reap(self) -> None:
        """Collect whoever has ended: the stage, and as PID 1 any orphan."""
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
            os.kill(self._pid, signal.SIGTERM)

    def _kill_stragglers(self) -> bool:
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # PermissionError: macOS, for a group of zombies
            return True
        return True

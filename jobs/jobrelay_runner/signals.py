"""SIGTERM inside a stage: obeyed at once, or at the next point where nothing is lost."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from jobrelay_runner.errors import Terminated

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess


class StopRequest:
    """Turns SIGTERM into Terminated.

    Outside `deferred()` it is raised wherever the program is. Inside, only `requested` is set,
    and the program checks it where it can stop. It stays set, so a library that swallows the exception
    does not cancel the request.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False
        self._others: Sequence[BaseProcess] = ()

    def install(self) -> None:
        """Become the handler of SIGTERM. SIGINT is left to the supervisor, which sends SIGTERM."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def ignore(self) -> None:
        """Ignore SIGTERM from here on: the stage is ending anyway."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
        for process in self._others:
            process.terminate()
        # A second SIGTERM must not interrupt the cleanup after the first one's Terminated. But it must be
        # raised again otherwise: a library may have swallowed the first one.
        if not self._deferred and not isinstance(sys.exc_info()[1], Terminated):
            self.obey()

    def obey(self) -> None:
        """Raise Terminated if a stop was requested."""
        if self.requested:
            raise Terminated("stopped by SIGTERM")

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Interrupt nothing in this block; the block checks `requested` and stops by itself."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextmanager
    def passed_on_to(self, processes: Sequence[BaseProcess]) -> Iterator[None]:
        """Interrupt nothing in this block, and send SIGTERM to `processes`, the present and later ones."""
        with self.deferred():
            self._others = processes
            try:
                yield
            finally:
                self._others = ()


def die_with_parent() -> None:
    """Kill this process when its parent is killed; on Linux only.

    In a container the end of PID 1 does this. Elsewhere a stage without its supervisor would keep
    writing checkpoints during the next attempt, and a training worker would wait for the others.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    pr_set_pdeathsig = 1  # <linux/prctl.h>
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)

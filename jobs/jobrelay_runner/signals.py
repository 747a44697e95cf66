"""SIGTERM inside a stage: at once, or at the next point where it can be obeyed without loss."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType

from jobrelay_runner.errors import Terminated


class StopRequest:
    """Turns SIGTERM into Terminated.

    Outside of `deferred()` it is raised wherever the program is. Inside, only `requested` is set,
    and the program looks at it where it can stop. It stays set: libraries that swallow exceptions
    do not make it forgotten.
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
        """From here on the stage is at its end anyway."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
        for process in self._others:
            process.terminate()
        # A second one must not interrupt what the first one's Terminated has to end. That it is not raised
        # twice at all would be too much: a library may have swallowed it.
        if not self._deferred and not isinstance(sys.exc_info()[1], Terminated):
            self.obey()

    def obey(self) -> None:
        """Raise Terminated if it was asked for."""
        if self.requested:
            raise Terminated("stopped by SIGTERM")

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In this block nothing is interrupted; the block asks `requested` and stops by itself."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextmanager
    def passed_on_to(self, processes: Sequence[BaseProcess]) -> Iterator[None]:
        """In this block nothing is interrupted here; `processes`, now and later, get SIGTERM as well."""
        with self.deferred():
            self._others = processes
            try:
                yield
            finally:
                self._others = ()


def die_with_parent() -> None:
    """Where Linux offers it: a parent that is killed takes this process along.

    In a container the end of PID 1 does this. Elsewhere a stage without its supervisor would go on
    writing checkpoints beside the next attempt, and a worker of a training would wait for the others.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    pr_set_pdeathsig = 1  # <linux/prctl.h>
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)

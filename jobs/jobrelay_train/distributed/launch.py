"""Several processes for one stage: fork them, watch them, and end them together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Final, Generic, TypeVar, cast

from jobrelay_runner.errors import Failed, PeerLost, StageError, Terminated
from jobrelay_runner.signals import StopRequest, die_with_parent
from jobrelay_runner.text.redaction import redacted
from jobrelay_runner.usage.timeline import also_marked, moments

_T = TypeVar("_T")
_fork = multiprocessing.get_context("fork")

#: When one process fails, the others soon notice and end as well. The first one is the cause.
_GRACE_SECONDS: Final = 1.0


def run_workers(size: int, work: Callable[[int], _T], stop: StopRequest) -> _T:
    """Run work(0), …, work(size - 1), each in its own process; return the result of work(0).

    The processes are forked, so they share everything that this process has read and built; it must not have
    used threads before. SIGTERM is passed on to all of them. As soon as one fails, the others are killed and
    its error is raised: a StageError unchanged, Failed for anything else.
    """
    workers: list[_Worker[_T]] = []
    processes: list[BaseProcess] = []
    with stop.passed_on_to(processes):
        try:
            with _held_back(signal.SIGTERM):
                for rank in range(size):
                    workers.append(_Worker(rank, size, work, processes))
                    processes.append(workers[-1].process)
            # The signal is blocked only in this thread. If there are other threads, one of them takes it, and
            # the handler passes it on only to the processes that exist at that moment.
            if stop.requested:
                for process in processes:
                    process.terminate()
            _wait_for(workers)
        finally:
            for process in processes:
                process.kill()
                process.join()
    return workers[0].result()


@contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """Hold back a signal until the end of this block, here and in the processes that are forked in it.

    Then all processes exist to receive it. And Python would lose a signal that reaches a newly forked
    process before its interpreter runs.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker(Generic[_T]):
    """One of the processes, and its result."""

    def __init__(self, rank: int, size: int, work: Callable[[int], _T], others: list[BaseProcess]) -> None:
        self._name = f"process {rank} of {size}"
        self._answer, sender = _fork.Pipe(duplex=False)
        self.process: BaseProcess = _fork.Process(target=_do, args=(work, rank, sender, others), daemon=True)
        self.process.start()
        sender.close()

    def failed(self) -> bool:
        """Whether it failed; call this after it has ended."""
        self.process.join()
        return self.process.exitcode != 0

    def result(self) -> _T:
        """Return what its work returned. Raises what its work raised, or Failed if it did neither."""
        try:
            done, value, timeline = self._answer.recv()
        except EOFError:
            raise Failed(f"{self._name} {self._how()}; the stage ended the others") from None
        also_marked(timeline)
        if not done:
            raise value
        return cast(_T, value)

    def error(self) -> StageError:
        """Return why it failed."""
        try:
            self.result()
        except StageError as error:
            return error
        return Failed(f"{self._name} {self._how()} after its work was done")

    def _how(self) -> str:
        code = self.process.exitcode or 0
        if code >= 0:
            return f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}"


def _do(
    work: Callable[[int], _T], rank: int, sender: connection.Connection, others: list[BaseProcess]
) -> None:
    die_with_parent()
    others.clear()  # only the parent passes signals on
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        result = work(rank)
        sender.send((True, result, moments()))
    except StageError as error:
        sender.send((False, error, moments()))
        os._exit(error.exit_code)
    except BaseException:
        sys.stderr.write(redacted(traceback.format_exc()))
        os._exit(1)


def _wait_for(workers: Sequence[_Worker[_T]]) -> None:
    """Wait until all have ended, or one has failed; then raise its error."""
    left, errors = list(workers), dict[_Worker[_T], StageError]()
    deadline: float | None = None
    while left and (ended := _ended(left, deadline)):
        errors |= {worker: worker.error() for worker in ended if worker.failed()}
        # Processes that were asked to stop get no deadline: one of them is still saving.
        if deadline is None and not all(isinstance(error, Terminated) for error in errors.values()):
            deadline = time.monotonic() + _GRACE_SECONDS
    in_order = [errors[worker] for worker in workers if worker in errors]
    if in_order:
        raise next((error for error in in_order if not isinstance(error, PeerLost)), in_order[0])


def _ended(left: list[_Worker[_T]], deadline: float | None) -> list[_Worker[_T]]:
    """Move the ended workers out of `left`; wait for the first until `deadline` (None: forever)."""
    seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
    ready = connection.wait([worker.process.sentinel for worker in left], seconds)
    ended = [worker for worker in left if worker.process.sentinel in ready]
    left[:] = [worker for worker in left if worker not in ended]
    return ended

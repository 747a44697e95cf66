"""Several processes for one stage, forked, watched and ended together by torch.multiprocessing.

Torch elastic starts its workers with the same functions. Its agent is not used: it ends 0.3 s later, because
it polls; it opens a store on all network interfaces even for one machine; and it gives the other processes
of one that has failed SIGTERM, which here means to save, and 30 s.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeVar, cast

from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, start_processes

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
    # It warns of every process that it ends; the error names the one that matters.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    pipes = [_fork.Pipe(duplex=False) for _ in range(size)]
    processes: list[BaseProcess] = []
    with stop.passed_on_to(processes):
        with _held_back(signal.SIGTERM):
            started: ProcessContext = start_processes(  # type: ignore[no-untyped-call]
                _do, (work, pipes), size, join=False, daemon=True, start_method="fork"
            )
            processes += started.processes
        # The signal is blocked only in this thread. If there are other threads, one of them takes it, and
        # the handler passes it on only to the processes that it knows at that moment.
        if stop.requested:
            for process in processes:
                process.terminate()
        failed = _first_to_fail(started)
    answers = [_answer(receiver, sender) for receiver, sender in pipes]
    errors = {rank: answer for rank, answer in enumerate(answers) if isinstance(answer, StageError)}
    if failed is not None and failed not in errors:
        rest = " after its work was done" if answers[failed] else "; the stage ended the others"
        errors[failed] = Failed(f"process {failed} of {size} {_how(processes[failed].exitcode or 0)}{rest}")
    in_order = [errors[rank] for rank in sorted(errors, key=lambda rank: rank != failed)]
    if in_order:
        raise next((error for error in in_order if not isinstance(error, PeerLost)), in_order[0])
    return cast("list[_T]", answers[0])[0]


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


def _do(rank: int, work: Callable[[int], Any], pipes: Sequence[tuple[Connection, Connection]]) -> None:
    """Send what the work returned, as a list of one, or the StageError that it raised."""
    die_with_parent()
    _, sender = pipes[rank]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        sender.send(([work(rank)], moments()))
    except Terminated as error:
        sender.send((error, moments()))  # it does not count as a failure: another one is still saving
    except StageError as error:
        sender.send((error, moments()))
        if isinstance(error, PeerLost):
            time.sleep(_GRACE_SECONDS / 2)  # so that the lost one, if it is here, is seen to end first
        os._exit(error.exit_code)
    except BaseException:
        sys.stderr.write(redacted(traceback.format_exc()))
        os._exit(1)


def _first_to_fail(started: ProcessContext) -> int | None:
    """Wait for all processes to end; return the rank of the first that failed, None if all succeeded."""
    try:
        while not started.join(grace_period=_GRACE_SECONDS):
            pass
    except ProcessExitedException as error:
        return error.error_index
    return None


def _answer(receiver: Connection, sender: Connection) -> list[Any] | StageError | None:
    """Return what a process that has ended has sent; None if it could not."""
    sender.close()
    try:
        answer, timeline = receiver.recv()
    except (EOFError, OSError):
        return None
    also_marked(timeline)
    return cast("list[Any] | StageError", answer)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"

"""Hogwild: several processes write to the same weights, and none waits for another.

Niu, Recht, Ré, Wright: Hogwild! A Lock-Free Approach to Parallelizing Stochastic Gradient Descent (2011).
Weights, statistics and the optimiser's state are in shared memory. Two processes that write to the same
place at once lose an update now and then; that costs less than locking every time.

Every process takes the next free batch, so that a slow process delays no other, and so that it is known
which batches are done when a training is interrupted.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import torch
from torch import Tensor

from jobrelay_runner.context import StageResult
from jobrelay_runner.signals import StopRequest
from jobrelay_train.distributed.launch import run_workers
from jobrelay_train.distributed.shared_memory import SharedMemory
from jobrelay_train.models.registry import ModelSpec, outline
from jobrelay_train.program import Context
from jobrelay_train.training.optim import init_optimizer_state
from jobrelay_train.training.state import TrainState
from jobrelay_train.training.strategies import Shard, Work

_fork = multiprocessing.get_context("fork")


def run(context: Context, spec: ModelSpec, work: Work, stop: StopRequest) -> StageResult:
    """Train in several processes on this machine."""
    size = context.config.train.processes_a_node
    model = outline(spec)
    # An optimiser stores at most two values for each weight.
    ledger = Ledger(size, SharedMemory([*model.parameters(), *model.buffers()], copies=3))
    return run_workers(size, lambda rank: work(Hogwild(rank, ledger)), stop)


class Ledger:
    """Shared state: the next step, the steps of an epoch, the stop requests, and each process's sums.

    Create it before the fork.
    """

    def __init__(self, size: int, memory: SharedMemory) -> None:
        self.memory = memory
        self.states = [_fork.Pipe(duplex=False) for _ in range(size - 1)]  # to each but the main process
        self.next_step = _fork.Value("q", 0)
        self.stopping = _fork.Event()
        self.sums = memory.share(torch.zeros(size, 2, dtype=torch.float64))
        self.done = _fork.Value("q", 0)
        self.have_worked = _fork.Barrier(size, action=self._end_epoch)
        self.may_resume = _fork.Barrier(size)

    def _end_epoch(self) -> None:
        """Reset the step; the last process to reach a barrier does this before any leaves it.

        Later would be wrong: a process that is slow to leave would read the step of the others' next epoch.
        """
        self.done.value, self.next_step.value = self.next_step.value, 0


class Hogwild:
    """One of the processes."""

    device = torch.device("cpu")
    is_in_order = False

    def __init__(self, rank: int, ledger: Ledger) -> None:
        self.is_main = rank == 0
        self._rank = rank
        self._ledger = ledger

    def prepare(self, state: TrainState) -> None:
        if self.is_main:
            content = state.to_bytes()
            for _, sender in self._ledger.states:
                sender.send_bytes(content)
        else:
            receiver, _ = self._ledger.states[self._rank - 1]
            state.become(receiver.recv_bytes(), self._rank)
        share(state, self._ledger.memory)
        self._ledger.may_resume.wait()  # all processes have put the same values there

    def steps(self, first: int, total: int, stop: StopRequest) -> Iterator[int]:
        taken = self._ledger.next_step
        with taken.get_lock():  # the first process to get here starts the epoch
            taken.value = max(taken.value, first)
        while not self._ledger.stopping.is_set():
            if stop.requested:
                self._ledger.stopping.set()
                return
            with taken.get_lock():
                step = taken.value
                if step >= total:
                    return
                taken.value = step + 1
            yield step

    def shard(self, rows: slice) -> Shard:
        return Shard(rows)

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)

    def all_reduce(self, sums: Tensor) -> tuple[int, Tensor]:
        self._ledger.sums[self._rank] = sums
        self._ledger.have_worked.wait()
        return self._ledger.done.value, self._ledger.sums.sum(0)

    def barrier(self) -> None:
        self._ledger.may_resume.wait()


def share(state: TrainState, memory: SharedMemory) -> None:
    """Move everything that a step changes into memory that forked processes share."""
    for tensor in (*state.model.parameters(), *state.model.buffers()):
        tensor.data = memory.share(tensor.data)
    init_optimizer_state(state.optimizer)
    for moments in state.optimizer.state.values():
        for name, moment in moments.items():
            moments[name] = memory.share(moment)

"""Hogwild: several processes write to the same weights, and none waits for another.

Niu, Recht, Ré, Wright: Hogwild! A Lock-Free Approach to Parallelizing Stochastic Gradient Descent (2011).
Weights, statistics and the optimiser's moments lie in memory that all processes see. Two that write to
one place at once lose an update now and then; that costs less than locking every time.

Every process takes the next batch that nobody has taken, so that a slow one holds nobody up, and so
that it is known which batches are done when a training is interrupted.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import torch
from torch import Tensor

from jobrelay_runner.context import StageResult
from jobrelay_runner.signals import StopRequest
from jobrelay_train import compute
from jobrelay_train.distributed import launch
from jobrelay_train.distributed.shared_memory import in_shared_memory
from jobrelay_train.training.fit import Training
from jobrelay_train.training.optim import make_moments
from jobrelay_train.training.step import Learner
from jobrelay_train.training.strategy import Part

_fork = multiprocessing.get_context("fork")


def run(training: Training) -> StageResult:
    """Train in several processes of this machine, forked with the model in memory that they share."""
    size = training.config.train.processes_a_node
    learner = training.learner(torch.device("cpu"))
    progress = training.begin(learner)
    share(learner)
    ledger = Ledger(size)

    def work(rank: int) -> StageResult:
        compute.use_processors(sharing=size)
        if rank:  # the leader goes on with the numbers of the checkpoint
            compute.seed(training.config, rank, progress.position.epoch, progress.position.step)
        return training.finish(learner, progress, Hogwild(rank, ledger))

    return launch.run(size, work, training.stop)


class Ledger:
    """What all of a team see: the next step, how many an epoch had, who stops, and everybody's sums."""

    def __init__(self, size: int) -> None:
        self.next_step = _fork.Value("q", 0)
        self.stopping = _fork.Event()
        self.sums = in_shared_memory(torch.zeros(size, 2, dtype=torch.float64))
        self.done = _fork.Value("q", 0)
        self.have_worked = _fork.Barrier(size, action=self._end_epoch)
        self.may_go_on = _fork.Barrier(size)

    def _end_epoch(self) -> None:
        """What whoever comes last to a meeting does before anybody leaves it.

        Not later: one that is slow to leave would hear of the epoch that the others have begun.
        """
        self.done.value, self.next_step.value = self.next_step.value, 0


class Hogwild:
    """One process of a team."""

    def __init__(self, rank: int, ledger: Ledger) -> None:
        self.leads = rank == 0
        self._rank = rank
        self._ledger = ledger
        self._total = 0

    def steps(self, first: int, total: int, stop: StopRequest) -> Iterator[int]:
        self._total = total
        taken = self._ledger.next_step
        with taken.get_lock():  # whoever comes first begins the epoch
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

    def part(self, places: slice) -> Part:
        return Part(places)

    def meet(self, sums: Tensor) -> tuple[int, Tensor]:
        self._ledger.sums[self._rank] = sums
        self._ledger.have_worked.wait()
        return self._ledger.done.value, self._ledger.sums.sum(0)

    def go_on(self) -> None:
        self._ledger.may_go_on.wait()


def share(learner: Learner) -> None:
    """Move all that a step changes into memory that forked processes share."""
    for tensor in (*learner.model.parameters(), *learner.model.buffers()):
        tensor.data = in_shared_memory(tensor.data)
    make_moments(learner.optimizer)
    for moments in learner.optimizer.state.values():
        for name, moment in moments.items():
            moments[name] = in_shared_memory(moment)

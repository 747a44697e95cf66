"""Strategies: training in one process, or in several together.

single    one process with all CPUs
hogwild   several processes on one machine; all write to the same weights, and none waits for another
ddp       several processes, on one machine or many; each takes its shard of every batch, and the gradients
          are averaged

All of them leave the same files, and can be interrupted and resumed in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from jobrelay_runner.context import StageResult
from jobrelay_runner.signals import StopRequest
from jobrelay_train.models.registry import ModelSpec
from jobrelay_train.program import Context
from jobrelay_train.training.state import TrainState


class Shard(NamedTuple):
    """One process's share of a batch: some rows of the epoch's order.

    weight: of their mean loss in the step. counts: whether their loss and correct answers count for the
    epoch; False if another process counts the same rows.
    """

    rows: slice
    weight: float = 1.0
    counts: bool = True


class Strategy(Protocol):
    """The processes that train together, as one of them sees them."""

    is_main: bool  # only this process prints and writes files
    is_in_order: bool  # its steps are known beforehand: one after the other
    device: torch.device

    def prepare(self, state: TrainState) -> None:
        """Give the main process's state to all processes before the first step."""

    def steps(self, first: int, total: int, stop: StopRequest) -> Iterator[int]:
        """Yield this process's steps of an epoch, from `first` on; end early on a stop."""

    def shard(self, rows: slice) -> Shard:
        """Return this process's share of a batch. The shards that count cover each row exactly once."""

    def backward(self, loss: Tensor) -> None:
        """Leave the gradients of the step in the parameters."""

    def all_reduce(self, sums: Tensor) -> tuple[int, Tensor]:
        """Wait for the others at the end of an epoch's steps.

        Returns how many steps of the epoch are done, and the sum of all processes' `sums`.
        """

    def barrier(self) -> None:
        """Wait until the main process has saved the epoch."""


#: The work of every process, with its own view of the others; the main process's result is the stage's.
Work = Callable[[Strategy], StageResult]


def runner(name: str) -> Callable[[Context, ModelSpec, Work, StopRequest], StageResult]:
    """Return the function that does the work in as many processes as configured."""
    # By name: torch.distributed takes a while to import, and a single process does not need it.
    run: Callable[[Context, ModelSpec, Work, StopRequest], StageResult]
    run = import_module(f"{__name__}.{name}").run
    return run

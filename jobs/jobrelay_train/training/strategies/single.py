"""One process, with all CPUs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from jobrelay_runner.context import StageResult
from jobrelay_runner.signals import StopRequest
from jobrelay_train import compute
from jobrelay_train.models.registry import ModelSpec
from jobrelay_train.program import Context
from jobrelay_train.training.state import TrainState
from jobrelay_train.training.strategies import Shard, Work


def run(context: Context, spec: ModelSpec, work: Work, stop: StopRequest) -> StageResult:
    """Train in this process."""
    return work(Single(compute.prepare(context.config)))


class Single:
    """The only process."""

    is_main = True
    is_in_order = True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._done = 0

    def prepare(self, state: TrainState) -> None:
        pass

    def steps(self, first: int, total: int, stop: StopRequest) -> Iterator[int]:
        self._done = first
        while self._done < total and not stop.requested:
            yield self._done
            self._done += 1

    def shard(self, rows: slice) -> Shard:
        return Shard(rows)

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)

    def all_reduce(self, sums: Tensor) -> tuple[int, Tensor]:
        return self._done, sums

    def barrier(self) -> None:
        pass

"""Threads that compute the gradients of one batch together, each with its own part of the images.

PyTorch's own threads divide every single operation instead. With batches of 64 small images an operation
takes some tens of microseconds, about as long as waking a thread: two threads are no faster than one.
Here the threads wait for each other once per step, after the gradients; two train 1.7 times as fast as one.

As with DistributedDataParallel, batch normalisation sees each part separately. Gradients are added in a fixed
order: the same seed and the same number of parts give the same weights, bit for bit.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import torch
from torch import Tensor, nn

#: A part with fewer images is not worth a thread.
_SMALLEST_PART: Final = 16

#: (model, x, y, weight) → a tensor; leaves gradients of weight × mean loss in the model's parameters
Work = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


class ThreadedDataParallel:
    """A model and its replicas: shared weights, separate gradients and statistics."""

    def __init__(self, model: nn.Module, count: int) -> None:
        self.models = [model, *(_replica(model) for _ in range(count - 1))]
        self._threads = ThreadPoolExecutor(max(count - 1, 1), "replica")

    @property
    def count(self) -> int:
        """How many of them work at once."""
        return len(self.models)

    def accumulate(self, work: Work, x: Tensor, y: Tensor, weight: float = 1.0) -> Tensor:
        """Do `work` on a whole batch; return the sum of its results, and leave the gradients in the model."""
        self._share_statistics()
        parts = [
            (model, x[rows], y[rows], weight * ((rows.stop - rows.start) / len(x)))
            for model, rows in zip(self.models, split(len(x), self.count), strict=True)
            if rows.stop > rows.start
        ]
        waiting = [self._threads.submit(work, *part) for part in parts[1:]]
        total = work(*parts[0])
        for model, result in zip(self.models[1:], waiting, strict=False):
            total += result.result()
            for mine, theirs in zip(self.models[0].parameters(), model.parameters(), strict=True):
                if mine.requires_grad:
                    mine.grad += theirs.grad  # type: ignore[operator]
                    theirs.grad = None
        self._average_statistics(len(parts))
        return total

    def _share_statistics(self) -> None:
        """Copy the model's statistics, which may come from a checkpoint, to the replicas before a step."""
        for mine, *theirs in zip(*(model.buffers() for model in self.models), strict=True):
            for other in theirs:
                other.copy_(mine)

    def _average_statistics(self, count: int) -> None:
        """Give the model the whole batch's statistics: the mean over the first `count`, which have worked."""
        for mine, *theirs in zip(*(model.buffers() for model in self.models[:count]), strict=True):
            if mine.is_floating_point() and theirs:
                mine += sum(theirs)
                mine /= count


def split(length: int, count: int) -> list[slice]:
    """Split `length` rows into `count` parts whose sizes differ by at most one; larger ones come first."""
    size, rest = divmod(length, count)
    ends = [number * size + min(number, rest) for number in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def worth_it(model: nn.Module, example: Tensor, batch_size: int, processors: int) -> int:
    """Return the best number of replicas for `processors` CPUs; 1 if PyTorch's own threads do as well.

    example: normalised images (N, C, H, W) on the CPU. A model that draws random numbers (dropout)
    gets one replica: threads would draw them from torch's generator in a random order.
    """
    count = min(processors, batch_size // _SMALLEST_PART)
    if count < 2 or not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return 1
    before = torch.get_rng_state()
    with torch.no_grad():
        copy.deepcopy(model).train()(example)
    draws = not torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    return 1 if draws else count


def _replica(model: nn.Module) -> nn.Module:
    replica = copy.deepcopy(model)
    for theirs, mine in zip(replica.parameters(), model.parameters(), strict=True):
        theirs.data = mine.data
    return replica

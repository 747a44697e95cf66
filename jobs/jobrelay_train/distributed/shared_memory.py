"""Memory that the processes of one machine share."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Iterable, Sequence
from multiprocessing.synchronize import Semaphore

import torch
from torch import Tensor

_fork = multiprocessing.get_context("fork")

#: Of a processor's cache: what no two tensors share.
_LINE = 64


class SharedMemory:
    """Room for so many copies of these tensors, and some small ones. Made before the fork.

    Every process puts the same tensors there in the same order, and then sees what any of them changes.
    Not in /dev/shm, as Tensor.share_memory_() has it: there a container has 64 MiB, and a process that
    takes more dies of SIGBUS. Memory that nothing is put into is never taken.
    """

    def __init__(self, tensors: Iterable[Tensor], copies: int = 1) -> None:
        small = 1 << 20
        self._memory = mmap.mmap(-1, small + copies * sum(tensor.nbytes + 2 * _LINE for tensor in tensors))
        self._used = 0

    def share(self, tensor: Tensor) -> Tensor:
        """A copy of the same strides that lies in this memory."""
        values = torch.frombuffer(self._memory, dtype=tensor.dtype, count=tensor.numel(), offset=self._used)
        self._used += -(-tensor.nbytes // _LINE) * _LINE
        return values.as_strided(tensor.size(), tensor.stride()).copy_(tensor)


class Exchange:
    """Sums over the processes of one machine, and one question to all of them. Made before the fork.

    Over a network's loopback the same takes ten times as long: every message wakes several threads, on
    processors that have work. There are two places for everything, used in turn: a process that has met
    all others continues with the other one, and none is further ahead of another than that.
    """

    def __init__(self, size: int, values: int) -> None:
        self._size = size
        self._arrived = [[_fork.Semaphore(0) for _ in range(size)] for _ in range(2)]
        zeros = torch.zeros(2, size, values)
        memory = SharedMemory([zeros])
        self._values = memory.share(zeros)
        self._flags = memory.share(torch.zeros(2, size, dtype=torch.bool))
        self._sums = 0

    def add_up(self, rank: int, values: Tensor) -> Tensor:
        """Add everybody's `values` (float32, no more than `values` of them), in place; called by all."""
        turn = self._sums % 2
        self._sums += 1
        place = self._values[turn, :, : values.numel()]
        place[rank] = values
        self._meet(rank, self._arrived[turn])
        return torch.sum(place, 0, out=values)  # by everybody in the same order: the same bits

    def _meet(self, rank: int, arrived: Sequence[Semaphore]) -> None:
        # As multiprocessing.Barrier does it, in a sixth of its time, which counts in steps of milliseconds.
        others = [semaphore for number, semaphore in enumerate(arrived) if number != rank]
        for other in others:
            other.release()
        for _ in others:
            arrived[rank].acquire()

    def raise_flag(self, rank: int, step: int, flag: bool) -> None:
        """Give this process's answer; to be followed by a sum before anybody asks for the others'."""
        self._flags[step % 2, rank] = flag

    def any_flag(self, step: int) -> bool:
        """Whether anybody has answered yes in this step."""
        return bool(self._flags[step % 2].any())

"""Memory that the processes of one machine share, and what they agree on by it."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Sequence
from multiprocessing.synchronize import Semaphore

import torch
from torch import Tensor

_fork = multiprocessing.get_context("fork")


class Exchange:
    """Sums over the processes of one machine, and one question to all of them.

    Made before the fork. Over a network's loopback the same takes ten times as long: every message wakes
    several threads, on processors that have work. There are two places for everything, used in turn: who
    has met all others goes on with the other one, and nobody is further ahead of anybody than that.
    """

    def __init__(self, size: int, values: int) -> None:
        self._size = size
        self._arrived = [[_fork.Semaphore(0) for _ in range(size)] for _ in range(2)]
        self._values = in_shared_memory(torch.zeros(2, size, values))
        self._flags = in_shared_memory(torch.zeros(2, size, dtype=torch.bool))
        self._sums = 0

    def add_up(self, rank: int, values: Tensor) -> Tensor:
        """Add everybody's `values` (float32, at most as many as was said), in place. All must ask for it."""
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


def in_shared_memory(tensor: Tensor) -> Tensor:
    """A copy, of the same strides, that processes forked from this one see and change as one.

    Not in /dev/shm, as Tensor.share_memory_() has it: there a container has 64 MiB, and a process that
    takes more dies of SIGBUS.
    """
    values = torch.frombuffer(mmap.mmap(-1, max(tensor.nbytes, 1)), dtype=tensor.dtype, count=tensor.numel())
    return values.as_strided(tensor.size(), tensor.stride()).copy_(tensor)

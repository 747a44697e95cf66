"""Memory shared by the processes of one machine."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Iterable, Sequence
from multiprocessing.synchronize import Semaphore

import torch
from torch import Tensor

_fork = multiprocessing.get_context("fork")

#: Bytes of a CPU cache line, which no two tensors share.
_LINE = 64


class SharedMemory:
    """Room for `copies` of these tensors, and some small ones. Create it before the fork.

    Every process puts the same tensors there in the same order, and then sees every process's changes. It is
    not in /dev/shm as with Tensor.share_memory_(): a container has only 64 MiB there, and SIGBUS kills a
    process that takes more. Unused memory is never allocated.
    """

    def __init__(self, tensors: Iterable[Tensor], copies: int = 1) -> None:
        small = 1 << 20
        self._memory = mmap.mmap(-1, small + copies * sum(tensor.nbytes + 2 * _LINE for tensor in tensors))
        self._used = 0

    def share(self, tensor: Tensor) -> Tensor:
        """Copy a tensor, with its strides, into this memory."""
        values = torch.frombuffer(self._memory, dtype=tensor.dtype, count=tensor.numel(), offset=self._used)
        self._used += -(-tensor.nbytes // _LINE) * _LINE
        return values.as_strided(tensor.size(), tensor.stride()).copy_(tensor)


class Exchange:
    """Sums over the processes of one machine, and one flag from each. Create it before the fork.

    Over the loopback network the same takes ten times as long: every message wakes several threads, on
    busy CPUs. There are two buffers for everything, used in turn: a process that has met all others continues
    with the other buffer, so no process is more than one buffer ahead.
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
        """Sum all processes' `values` (float32, at most as many as planned) in place; all of them call it."""
        turn = self._sums % 2
        self._sums += 1
        place = self._values[turn, :, : values.numel()]
        place[rank] = values
        self._meet(rank, self._arrived[turn])
        return torch.sum(place, 0, out=values)  # the same order in every process gives the same bits

    def _meet(self, rank: int, arrived: Sequence[Semaphore]) -> None:
        # Like multiprocessing.Barrier, in a sixth of its time, which matters in steps of milliseconds.
        others = [semaphore for number, semaphore in enumerate(arrived) if number != rank]
        for other in others:
            other.release()
        for _ in others:
            arrived[rank].acquire()

    def raise_flag(self, rank: int, step: int, flag: bool) -> None:
        """Set this process's flag; a sum must follow before any process reads the flags."""
        self._flags[step % 2, rank] = flag

    def any_flag(self, step: int) -> bool:
        """Whether any process has set its flag in this step."""
        return bool(self._flags[step % 2].any())

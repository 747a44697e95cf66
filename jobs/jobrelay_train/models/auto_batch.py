"""How many images to give a model at once: as many as make it faster and fit into memory."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from jobrelay_runner.usage.cgroup import memory_bytes

_FIRST: Final = 32
_LARGEST: Final = 4096
#: Batches of one size until it is judged, by the best of them: the first one of a size is slow, as it
#: allocates what the next ones use again.
_TRIES: Final = 2
#: A doubled batch must be so much faster, or it is not worth its memory.
_GAIN: Final = 1.05
#: Of the memory that is allowed, what may be filled on purpose.
_SHARE: Final = 0.8


@dataclass(frozen=True)
class Memory:
    """Bytes: in use now, the most that ever was, and how many are allowed."""

    used: int
    peak: int
    allowed: int


class GrowingBatch:
    """A batch size that doubles from batch to batch while that pays; the work itself is the measurement.

    It is told after every batch how that went. What is computed does not depend on it (models.predict).
    """

    def __init__(self, memory: Callable[[], Memory]) -> None:
        self.size = _FIRST
        self._memory = memory
        self._used_before = memory().used
        self._rates: list[float] = []  # images a second, of the batches of this size
        self._best = (0.0, _FIRST)
        self._settled = False

    def took(self, images: int, seconds: float) -> None:
        """A batch of so many images has taken so long."""
        if self._settled or images < self.size:  # the last one, smaller than the others, says nothing
            return
        self._rates.append(images / seconds)
        if len(self._rates) < _TRIES:
            return
        rate, self._rates = max(self._rates), []
        gained = rate >= _GAIN * self._best[0]
        if gained:
            self._best = (rate, self.size)
        if gained and 2 * self.size <= _LARGEST and self._twice_fits():
            self.size *= 2
        else:
            self.size, self._settled = self._best[1], True

    def _twice_fits(self) -> bool:
        """A batch twice as large takes at most twice of what was taken since the first one."""
        memory = self._memory()
        return self._used_before + 2 * (memory.peak - self._used_before) <= _SHARE * memory.allowed


def memory_of(device: torch.device) -> Callable[[], Memory]:
    """What to ask for the memory in which a model on `device` works."""
    if device.type == "cuda":
        return lambda: Memory(
            torch.cuda.memory_reserved(device),
            torch.cuda.max_memory_reserved(device),
            # what others have taken of it meanwhile is not free for us
            torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device),
        )
    return _of_this_process


def _of_this_process() -> Memory:
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB here
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    try:
        used = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        used = peak
    return Memory(used, peak, memory_bytes())

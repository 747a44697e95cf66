"""Find the batch size for a model: it grows while that makes the model faster and memory suffices."""

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
#: Batches of one size before it is judged, by the best of them: the first batch of a size is slow, because it
#: allocates memory that the next ones reuse.
_TRIES: Final = 2
#: A doubled batch must be this much faster, or it is not worth its memory.
_GAIN: Final = 1.05
#: Share of the allowed memory that may be used.
_SHARE: Final = 0.8


@dataclass(frozen=True)
class Memory:
    """Bytes in use now, the peak, and the limit."""

    used: int
    peak: int
    allowed: int


class GrowingBatch:
    """A batch size that doubles from batch to batch while that pays; the work itself is the measurement.

    Report every batch with `took`. The results do not depend on the batch size (models.predict).
    """

    def __init__(self, memory: Callable[[], Memory]) -> None:
        self.size = _FIRST
        self._memory = memory
        self._used_before = memory().used
        self._rates: list[float] = []  # images a second, of the batches of this size
        self._best = (0.0, _FIRST)
        self._settled = False

    def took(self, images: int, seconds: float) -> None:
        """Record the seconds that a batch of `images` took."""
        if self._settled or images < self.size:  # the last batch is smaller, so it shows nothing
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
        """Whether twice the batch fits: it takes at most twice the memory used since the first one."""
        memory = self._memory()
        return self._used_before + 2 * (memory.peak - self._used_before) <= _SHARE * memory.allowed


def memory_of(device: torch.device) -> Callable[[], Memory]:
    """Return a function that measures the memory of a model on `device`."""
    if device.type == "cuda":
        return lambda: Memory(
            torch.cuda.memory_reserved(device),
            torch.cuda.max_memory_reserved(device),
            # memory that other processes have taken is not free for us
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

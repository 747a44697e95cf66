"""How long a model takes for a single image, as it would behind a web service."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from jobrelay_train.data.split import Images

_WARM_UP: Final = 10
#: Enough requests that the 99th percentile is not the slowest one.
_REQUESTS: Final = 200
_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Latency:
    """How long a single image takes, from its pixels to its probabilities."""

    requests: int
    p50_ms: float
    p99_ms: float


def measure_latency(
    ask: Callable[[Tensor], object], images: Images, clock: Callable[[], float] = time.perf_counter
) -> Latency:
    """Measure the latency over a bounded number of requests, after a few that only warm up.

    ask: takes one image (1, C, H, W); images: (N, C, H, W), used in turn.
    """
    for number in range(_WARM_UP):
        place = number % len(images)
        ask(images[place : place + 1])
    seconds: list[float] = []
    begun = clock()
    while len(seconds) < _REQUESTS and clock() - begun < _SECONDS:
        place = len(seconds) % len(images)
        image = images[place : place + 1]
        started = clock()
        ask(image)
        seconds.append(clock() - started)
    seconds.sort()
    return Latency(len(seconds), _percentile_ms(seconds, 0.5), _percentile_ms(seconds, 0.99))


def _percentile_ms(ordered: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of them do not exceed (nearest rank)."""
    return round(ordered[math.ceil(share * len(ordered)) - 1] * 1000, 3)

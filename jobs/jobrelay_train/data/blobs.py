"""Toy data: points in the plane, of two classes that a straight line separates except for some 2 %."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from jobrelay_train import compute

CLASS_NAMES: Final = ("blue", "orange")
#: The sizes of fashion-mnist-mini.
_COUNTS: Final = {"train": 6000, "test": 1000}
_CENTRES: Final = ((-1.2, -0.8), (1.2, 0.8))
#: Half the distance between the centres is 2.06 deviations, so the best line is right for 98.0 %.
_DEVIATION: Final = 0.7


def make(seed: int, split: str) -> tuple[Tensor, Tensor]:
    """Draw points float32 (N, 2) and labels int64 (N,) from two normal distributions, equally many each.

    seed: the run's; the same seed gives the same points. Train and test share no points.
    """
    count = _COUNTS[split]
    generator = compute.generator(seed, "blobs", split)
    labels = torch.arange(count) % len(CLASS_NAMES)
    spread = _DEVIATION * torch.randn(count, 2, generator=generator)
    return torch.tensor(_CENTRES)[labels] + spread, labels

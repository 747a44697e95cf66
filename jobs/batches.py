"""The order of an epoch's images, how they are varied, and the batches that come of it.

All of it depends on seed and epoch alone, so that a training that goes on in the middle of an epoch
finds the batches that it would have had.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jobs import compute
from jobs.contract.config import RunConfig
from jobs.data import DESCRIPTIONS


@dataclass(frozen=True)
class Epoch:
    """What an epoch makes of N images: `order` int64 (N,), and for each place whether it is mirrored."""

    order: Tensor
    mirrored: Tensor | None

    def batch(self, images: Tensor, labels: Tensor, places: slice) -> tuple[Tensor, Tensor]:
        """Images uint8 (B, C, H, W) and labels int64 (B,) of some places."""
        chosen = self.order[places]
        pixels = images[chosen]
        if self.mirrored is not None:
            pixels = torch.where(self.mirrored[places, None, None, None], pixels.flip(3), pixels)
        return pixels, labels[chosen]


def plan(config: RunConfig, epoch: int, samples: int, device: torch.device) -> Epoch:
    """The `epoch`-th passage (from 0) over so many images."""
    generator = compute.generator(config.seed, "epoch", epoch)
    order = torch.randperm(samples, generator=generator).to(device)
    if not DESCRIPTIONS[config.data.name].mirrored_is_the_same:
        return Epoch(order, None)
    return Epoch(order, (torch.rand(samples, generator=generator) < 0.5).to(device))

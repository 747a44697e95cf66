"""The order of an epoch's images, how they are varied, and the batches that come of it.

All of it depends on seed and epoch alone, so that a training that resumes in the middle of an epoch
finds the batches that it would have had.

torchvision's transforms draw once for a whole batch, or are called for every image; here a batch is
varied in one piece, and yet every image in its own way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobrelay_train import compute
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data.registry import VARIATIONS
from jobrelay_train.data.split import Images


@dataclass(frozen=True)
class Epoch:
    """What an epoch makes of N images. Each tensor has one row for each place of the order.

    order: int64 (N,), which image is there. mirrored: bool (N,), None if none is. moved: int64 (N, 2),
    how many pixels up and left, -reach … reach; None if none is.
    """

    order: Tensor
    mirrored: Tensor | None
    moved: Tensor | None
    reach: int

    def batch(self, images: Images, labels: Tensor, places: slice) -> tuple[Tensor, Tensor]:
        """Images uint8 (B, C, H, W) and labels int64 (B,) of some places."""
        chosen = self.order[places]
        pixels = images[chosen]
        if self.mirrored is not None:
            pixels = torch.where(self.mirrored[places, None, None, None], pixels.flip(3), pixels)
        if self.moved is not None:
            pixels = moved(pixels, self.moved[places], self.reach)
        return pixels, labels[chosen]


def plan(config: RunConfig, epoch: int, samples: int, device: torch.device) -> Epoch:
    """The `epoch`-th passage (from 0) over so many images."""
    generator = compute.generator(config.seed, "epoch", epoch)
    order = torch.randperm(samples, generator=generator).to(device)
    allowed = VARIATIONS[config.data.name]
    mirrored, offsets = None, None
    flip = allowed.mirrored if config.train.horizontal_flip == "auto" else config.train.horizontal_flip
    if config.train.augment and flip:
        mirrored = (torch.rand(samples, generator=generator) < 0.5).to(device)
    if config.train.augment and allowed.reach:
        reach = allowed.reach
        offsets = torch.randint(-reach, reach + 1, (samples, 2), generator=generator).to(device)
    return Epoch(order, mirrored, offsets, allowed.reach)


def moved(pixels: Tensor, offsets: Tensor, reach: int) -> Tensor:
    """Images (B, C, H, W), each moved up and left by its own `offsets` (B, 2); what comes in is black."""
    batch, channels, height, width = pixels.shape
    padded = F.pad(pixels, (reach,) * 4)
    rows = offsets[:, 0, None] + torch.arange(reach, height + reach, device=pixels.device)  # (B, H)
    columns = offsets[:, 1, None] + torch.arange(reach, width + reach, device=pixels.device)  # (B, W)
    images = torch.arange(batch, device=pixels.device)[:, None, None]
    if channels == 1:  # twice as fast as the same for any number of channels
        return padded[images, 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)
    return padded.movedim(1, 3)[images, rows[:, :, None], columns[:, None, :]].movedim(3, 1)

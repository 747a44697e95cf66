"""The order of an epoch's images, their augmentation, and the resulting batches.

All of this depends only on seed and epoch, so a training that resumes in the middle of an epoch gets the
same batches as without the interruption.

torchvision's transforms draw one random value for a whole batch, or are called for every image. Here a batch
is augmented in one operation, and still every image differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobrelay_train import compute
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data.items import Items, read_ahead
from jobrelay_train.data.registry import variation
from jobrelay_train.data.split import Images


@dataclass(frozen=True)
class Epoch:
    """Order and augmentation of N images in one epoch. Each tensor has one row per position in the order.

    number: of the epoch, from 0. order: int64 (N,), the image at that position. mirrored: bool (N,), None if
    no image is. moved: int64 (N, 2), how many pixels up and left, -reach … reach; None if no image is.
    """

    number: int
    order: Tensor
    mirrored: Tensor | None
    moved: Tensor | None
    reach: int

    def batch(self, images: Images, labels: Tensor, places: slice) -> tuple[Tensor, Tensor]:
        """Return images uint8 (B, C, H, W) and labels int64 (B,) of a range of positions."""
        if isinstance(images, Items):
            images = images.of_epoch(self.number)
        return self._varied(images[self.order[places]], labels, places)

    def batches(
        self, images: Images, labels: Tensor, ahead: Iterable[slice]
    ) -> Callable[[slice], tuple[Tensor, Tensor]]:
        """Return a function like `batch`; items that are not in memory are read ahead, at the places `ahead`.

        ahead: where the batches will be asked for, in order; nothing if that is not known.
        """
        places = list(ahead) if isinstance(images, Items) else []
        if not places:
            return lambda where: self.batch(images, labels, where)
        assert isinstance(images, Items)
        device = self.order.device
        read = read_ahead(images.of_epoch(self.number), self.order.cpu(), places, pin=device.type == "cuda")
        return lambda where: self._varied(next(read), labels, where)

    def _varied(self, pixels: Tensor, labels: Tensor, places: slice) -> tuple[Tensor, Tensor]:
        if pixels.device != self.order.device:  # read item by item
            pixels = pixels.to(self.order.device, non_blocking=pixels.is_pinned())
        if self.mirrored is not None:
            pixels = torch.where(self.mirrored[places, None, None, None], pixels.flip(3), pixels)
        if self.moved is not None:
            pixels = moved(pixels, self.moved[places], self.reach)
        return pixels, labels[self.order[places]]


def plan(config: RunConfig, epoch: int, samples: int, device: torch.device) -> Epoch:
    """Plan epoch `epoch` (from 0) over `samples` images."""
    generator = compute.generator(config.seed, "epoch", epoch)
    order = torch.randperm(samples, generator=generator).to(device)
    allowed = variation(config.data.name)
    mirrored, offsets = None, None
    flip = allowed.mirrored if config.train.horizontal_flip == "auto" else config.train.horizontal_flip
    if config.train.augment and flip:
        mirrored = (torch.rand(samples, generator=generator) < 0.5).to(device)
    if config.train.augment and allowed.reach:
        reach = allowed.reach
        offsets = torch.randint(-reach, reach + 1, (samples, 2), generator=generator).to(device)
    return Epoch(epoch, order, mirrored, offsets, allowed.reach)


def moved(pixels: Tensor, offsets: Tensor, reach: int) -> Tensor:
    """Shift each image (B, C, H, W) up and left by its own `offsets` (B, 2); fill with black."""
    batch, channels, height, width = pixels.shape
    padded = F.pad(pixels, (reach,) * 4)
    rows = offsets[:, 0, None] + torch.arange(reach, height + reach, device=pixels.device)  # (B, H)
    columns = offsets[:, 1, None] + torch.arange(reach, width + reach, device=pixels.device)  # (B, W)
    images = torch.arange(batch, device=pixels.device)[:, None, None]
    if channels == 1:  # twice as fast as the same for any number of channels
        return padded[images, 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)
    return padded.movedim(1, 3)[images, rows[:, :, None], columns[:, None, :]].movedim(3, 1)

"""A data set for training and testing: images, labels, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from jobrelay_runner.volume.record import FileDigest
from jobrelay_train.data.items import Items

SplitName = Literal["train", "test"]


@dataclass(frozen=True)
class Rows:
    """Some rows of a tensor of images, read on access.

    images: uint8 (M, C, H, W), possibly a mapped file; rows: int64 (N,). Use it like the tensor
    `images[rows]`, which may be too large for memory.
    """

    images: Tensor
    rows: Tensor

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), *self.images.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        return self.images.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        return self.images[self.rows[which]]

    def chosen(self, which: Tensor) -> Rows:
        """Select rows by position; nothing is read yet."""
        return Rows(self.images, self.rows[which])

    def to(self, device: torch.device) -> Images:
        """Return itself for the CPU; for another device, a tensor with all the images."""
        return self if device.type == "cpu" else self[:].to(device)


Images = Tensor | Rows | Items


def chosen(images: Images, which: Tensor) -> Images:
    """Select images by position; images in a file are not read yet."""
    return images[which] if isinstance(images, Tensor) else images.chosen(which)


def _without_a_copy(images: Images, which: Tensor) -> Images:
    return Rows(images, which) if isinstance(images, Tensor) else chosen(images, which)


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, C, H, W) and their labels int64 (N,), which are indices into class_names.

    names: display names of the files that the images were read from, if each image had its own file.
    files: digests of the files that were read; empty for data that ships with this package. skipped: unusable
    files of the whole set, with reasons. validation: images for judging the training while it runs. content:
    the SHA-256 of what was read, for data that is in no file that this package knows.
    """

    images: Images
    labels: Tensor
    class_names: tuple[str, ...]
    files: Mapping[Path, FileDigest]
    names: tuple[str, ...] | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    validation: Split | None = None
    content: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def held_out(self, share: float, generator: torch.Generator) -> Split:
        """Return the split without some of its images, which become its validation. No image is copied.

        share: fraction of the images; at least one is held out and one is left. A split that has a
        validation is returned unchanged.
        """
        if not share or self.validation is not None or len(self) < 2:
            return self
        order = torch.randperm(len(self), generator=generator)
        count = min(max(round(len(self) * share), 1), len(self) - 1)
        held, left = order[:count].sort().values, order[count:].sort().values
        rest, validation = self._rows(left), self._rows(held)
        return replace(
            rest, files=self.files, skipped=self.skipped, validation=validation, content=self.content
        )

    def _rows(self, which: Tensor) -> Split:
        names = tuple(self.names[row] for row in which.tolist()) if self.names else None
        images = _without_a_copy(self.images, which)
        return Split(images, self.labels[which], self.class_names, {}, names)

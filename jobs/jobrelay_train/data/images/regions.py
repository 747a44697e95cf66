"""The parts of a picture: connected pixels, their position and their extent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

#: A picture's pixels (H, W), or its colours (H, W, C).
Grey = NDArray[numpy.float32]
Mask = NDArray[numpy.bool_]

#: Pixels per side of an image of MNIST or Fashion-MNIST.
SIZE: Final = 28
#: Cells per side of the grid on which parts are distinguished.
GRID: Final = 160
_SIZE: Final = 28
_DIGIT: Final = 20


def border(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Return the outermost `width` pixels of an array (H, W, …) as one list."""
    rows = (values[:width], values[-width:])
    columns = (values[:, :width], values[:, -width:])
    shape = (-1, *values.shape[2:])
    return numpy.concatenate([part.reshape(shape) for part in (*rows, *columns)])


@dataclass(frozen=True)
class Part:
    """Connected pixels. mass: the sum of their values; positions are in pixels of the picture."""

    label: int
    top: int
    left: int
    height: int
    width: int
    area: float
    outline: float
    mass: float
    at_border: bool

    @property
    def thickness(self) -> float:
        """The mean width of its strokes, as a fraction of its longest edge."""
        return 2 * self.area / max(self.outline, 1) / max(self.height, self.width)

    def gap(self, other: Part) -> float:
        """Return the distance between their rectangles."""
        down = max(self.top, other.top) - min(self.top + self.height, other.top + other.height)
        across = max(self.left, other.left) - min(self.left + self.width, other.left + other.width)
        return max(down, across, 0)


@dataclass(frozen=True)
class Parts:
    labels: NDArray[numpy.int64]  # of the grid, 0 for none
    factor: int
    shape: tuple[int, int]
    all: list[Part]

    def mask(self, chosen: list[Part]) -> Mask:
        """Return where these parts are, in the size of the picture."""
        on = numpy.isin(self.labels, [part.label for part in chosen])
        large = on.repeat(self.factor, axis=0).repeat(self.factor, axis=1)
        return large[: self.shape[0], : self.shape[1]]


def divided(values: Grey, join: int) -> Parts:
    """Divide the nonzero pixels into connected parts, bridging gaps of `join` grid cells."""
    height, width = values.shape
    factor = -(-max(height, width) // GRID)
    picture = torch.from_numpy(values)[None, None]
    grid = F.max_pool2d(picture, factor, ceil_mode=True) > 0
    sums = F.avg_pool2d(picture, factor, ceil_mode=True, divisor_override=1)[0, 0].numpy()
    counts = F.avg_pool2d((picture > 0).float(), factor, ceil_mode=True, divisor_override=1)[0, 0].numpy()
    on = F.pad((picture > 0).float(), (0, 1, 0, 1))
    edges = (on[..., 1:, :-1] != on[..., :-1, :-1]).float() + (on[..., :-1, 1:] != on[..., :-1, :-1]).float()
    outlines = F.avg_pool2d(edges, factor, ceil_mode=True, divisor_override=1)[0, 0].numpy()
    wide = F.max_pool2d(grid.float(), 2 * join + 1, 1, join)
    labels = numpy.arange(1, grid.numel() + 1, dtype=numpy.int64).reshape(grid.shape[2:])
    labels = spread(labels, wide[0, 0].numpy() > 0)
    numbers = labels * grid[0, 0].numpy()
    found = _measured(numbers, factor, (counts, outlines, sums), (height, width))
    return Parts(numbers, factor, (height, width), found)


def spread(values: NDArray[numpy.int64], where: Mask) -> NDArray[numpy.int64]:
    """Give each true cell the highest value that it is connected to, along rows and columns."""
    values = values * where
    while True:
        before = values
        values = _along_rows(_along_rows(values, where).T, where.T).T
        if numpy.array_equal(values, before):
            return values


def _along_rows(values: NDArray[numpy.int64], where: Mask) -> NDArray[numpy.int64]:
    first = numpy.ones_like(where)
    first[:, 1:] = where[:, 1:] != where[:, :-1]
    starts = numpy.flatnonzero(first)
    highest = numpy.maximum.reduceat(values.ravel(), starts)
    lengths = numpy.diff(numpy.append(starts, values.size))
    return highest.repeat(lengths).reshape(values.shape) * where


def _measured(
    numbers: NDArray[numpy.int64], factor: int, values: tuple[Grey, Grey, Grey], shape: tuple[int, int]
) -> list[Part]:
    found = []
    names, inverse = numpy.unique(numbers, return_inverse=True)
    inverse = inverse.reshape(numbers.shape)
    areas, outlines, masses = (numpy.bincount(inverse.ravel(), each.ravel()) for each in values)
    order = [place for place in numpy.argsort(-masses) if names[place]][:200]  # dust may make more parts
    for place in order:
        rows, columns = numpy.nonzero(inverse == place)
        top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        at_border = top == 0 or left == 0 or bottom == numbers.shape[0] or right == numbers.shape[1]
        found.append(
            Part(
                label=int(names[place]),
                top=int(top * factor),
                left=int(left * factor),
                height=int(min(bottom * factor, shape[0]) - top * factor),
                width=int(min(right * factor, shape[1]) - left * factor),
                area=float(areas[place]),
                outline=float(outlines[place]) * 0.785,  # counted along rows and columns
                mass=float(masses[place]),
                at_border=bool(at_border),
            )
        )
    return found


def cut(values: Grey, where: Mask) -> Grey:
    """Crop to the smallest rectangle around the true pixels."""
    rows, columns = numpy.flatnonzero(where.any(axis=1)), numpy.flatnonzero(where.any(axis=0))
    if not len(rows):
        return values
    return values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def blurred(values: Grey, size: int) -> Grey:
    """Return the mean of the size x size pixels around each pixel of an array (H, W) or (H, W, C)."""
    picture = torch.from_numpy(values)
    planes = picture[None] if values.ndim == 2 else picture.permute(2, 0, 1)
    mean = F.avg_pool2d(planes[None], size, 1, size // 2, count_include_pad=False)[0]
    return (mean[0] if values.ndim == 2 else mean.permute(1, 2, 0)).numpy()

"""A picture of a model's classes in the plane: regions, points, and errors."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Final

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_SIDE: Final = 640
#: Everything is drawn this many times as large and then scaled down, for smooth edges.
_FINER: Final = 2
_CAPTION: Final = 56
_FONT_SIZE: Final = 16
_RADIUS: Final = 3
_CROSS: Final = 6
_INKS: Final = ((0x09, 0x69, 0xDA), (0xE3, 0x6A, 0x09))  # blue, orange
_PALE: Final = 0.25  # how much ink a region has


def draw_boundary(
    classify: Callable[[Tensor], Tensor], points: Tensor, labels: Tensor, class_names: Sequence[str]
) -> bytes:
    """Draw the regions of two classes with these points as PNG; a black cross marks each wrong point.

    classify: from points float32 (M, 2) to classes int64 (M,). points: float32 (N, 2); labels: int64 (N,).
    """
    middle = (points.amax(0) + points.amin(0)) / 2
    reach = 1.05 * (points.amax(0) - points.amin(0)).max() / 2  # the same scale on both axes
    picture = _regions(classify, middle, reach)
    pen = ImageDraw.Draw(picture)
    size = picture.width
    places = (points - middle) / reach * torch.tensor([1.0, -1.0])  # -1 … 1, y downwards
    wrong = classify(points) != labels
    for (x, y), label in zip(((places + 1) / 2 * size).tolist(), labels.tolist(), strict=True):
        _dot(pen, x, y, _INKS[label])
    for x, y in ((places[wrong] + 1) / 2 * size).tolist():
        _cross(pen, x, y)
    whole = Image.new("RGB", (_SIDE, _SIDE + _CAPTION), "white")
    whole.paste(picture.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (0, 0))
    _caption(whole, class_names, len(points), int(wrong.sum()))
    buffer = io.BytesIO()
    whole.save(buffer, format="PNG")
    return buffer.getvalue()


def _regions(classify: Callable[[Tensor], Tensor], middle: Tensor, reach: Tensor) -> Image.Image:
    """Draw each pixel of the larger picture in the pale ink of its predicted class."""
    size = _SIDE // 2
    steps = (2 * (torch.arange(size) + 0.5) / size - 1) * reach
    across, down = middle[0] + steps, middle[1] - steps
    grid = torch.stack((across.expand(size, size), down[:, None].expand(size, size)), dim=2)  # (S, S, 2)
    classes = classify(grid.reshape(-1, 2)).view(size, size)
    pale = torch.tensor([[round(255 - _PALE * (255 - part)) for part in ink] for ink in _INKS])
    pixels = pale.to(torch.uint8)[classes].contiguous()  # (S, S, 3)
    image = Image.frombytes("RGB", (size, size), bytes(pixels.numpy()))
    return image.resize((_SIDE * _FINER, _SIDE * _FINER), Image.Resampling.BILINEAR)


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float, ink: tuple[int, int, int]) -> None:
    radius = _RADIUS * _FINER
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink, outline="white", width=_FINER)


def _cross(pen: ImageDraw.ImageDraw, x: float, y: float) -> None:
    reach = _CROSS * _FINER
    for slope in (1, -1):
        pen.line((x - reach, y - slope * reach, x + reach, y + slope * reach), fill="black", width=2 * _FINER)


def _caption(picture: Image.Image, class_names: Sequence[str], count: int, wrong: int) -> None:
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=_FONT_SIZE)
    x, y = 12.0, _SIDE + 8.0
    for name, ink in zip(class_names, _INKS, strict=True):
        pen.ellipse((x, y + 6, x + 10, y + 16), fill=ink)
        pen.text((x + 16, y), name, fill="black", font=font)
        x += 16 + font.getlength(name) + 24
    summary = f"{count - wrong:,} of {count:,} right; a cross marks a point put into the other class"
    pen.text((12, y + _FONT_SIZE + 6), summary, fill="black", font=font)

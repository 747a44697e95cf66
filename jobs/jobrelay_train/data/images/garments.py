"""Prepare a photograph of a garment as in Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, section 2).

The picture is cropped to the garment, its longest edge scaled to 28 pixels, centred and inverted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobrelay_train.data.images.regions import GRID, SIZE, Grey, Mask, blurred, border, cut, divided, spread

#: Up to this brightness a background is black: the image is already prepared, not a photograph.
_BLACK: Final = 16
#: A garment lying at an angle is straightened if its rectangle shrinks to this fraction.
_LEANING: Final = 0.96
#: A hole takes up at least this fraction of the garment; a print on the garment is smaller.
_HOLE: Final = 0.05
#: The width of a shadow's edge that is too sharp to be recognised by its slope.
_BAND: Final = 9
#: Added before the logarithm, so that noise in dark pixels does not count.
_DARK: Final = 20
#: From this brightness on, a background is meant to be white.
_LIGHT: Final = 160


def garment(image: Image.Image) -> Image.Image | None:
    colours = numpy.asarray(image, dtype=numpy.float32)
    grey = numpy.asarray(image.convert("L"), dtype=numpy.float32)
    tones = numpy.log(blurred(colours, 3) + _DARK)
    ground = _ground(tones)
    mask = _covered(tones - ground.tones, ground)
    parts = divided(mask.astype(numpy.float32), join=2)
    usable = [part for part in parts.all if part.area >= 0.004 * grey.size]
    inside = [part for part in usable if not part.at_border]
    if inside and max(part.area for part in inside) > 0.1 * max(part.area for part in usable):
        usable = inside
    if not usable:
        return None
    largest = max(usable, key=lambda part: part.area)
    reach = 0.15 * max(largest.height, largest.width)
    chosen = [part for part in usable if part.area >= 0.05 * largest.area and part.gap(largest) <= reach]
    mask &= parts.mask(chosen)
    light = ground.brightness()
    usual = float(numpy.median(light))
    white = 255 if usual >= _LIGHT else usual
    values = numpy.asarray(grey if usual <= _BLACK else 255 - grey * (white / light), dtype=numpy.float32)
    soft = blurred(mask.astype(numpy.float32), 3)
    values = values.clip(0, 255) * soft
    angle = _lean(mask)
    if angle:
        values, soft = (
            numpy.asarray(Image.fromarray(each).rotate(angle, Image.Resampling.BILINEAR, expand=True))
            for each in (values, soft)
        )
    return _in_the_square(cut(values, soft > 0.5))


def _lean(mask: Mask) -> int:
    """Return the rotation in degrees to the smallest upright rectangle; 0 if the gain is small."""
    rows, columns = numpy.nonzero(mask)
    step = max(1, len(rows) // 5000)
    y, x = rows[::step].astype(numpy.float64), columns[::step].astype(numpy.float64)
    areas = {}
    for angle in range(-16, 17, 2):
        radians = numpy.deg2rad(angle)
        across = x * numpy.cos(radians) + y * numpy.sin(radians)
        down = -x * numpy.sin(radians) + y * numpy.cos(radians)
        areas[angle] = numpy.ptp(across) * numpy.ptp(down)
    best = min(areas, key=lambda angle: (areas[angle], abs(angle)))
    return best if areas[best] < _LEANING * areas[0] else 0


def _in_the_square(cut: Grey) -> Image.Image:
    """Scale the longest edge to 28 pixels and centre the garment."""
    scale = SIZE / max(cut.shape)
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    small = numpy.asarray(Image.fromarray(cut.astype(numpy.float32)).resize(size, Image.Resampling.LANCZOS))
    whole = Image.new("L", (SIZE, SIZE))
    place = ((SIZE - size[0]) // 2, (SIZE - size[1]) // 2)
    whole.paste(Image.fromarray(small.clip(0, 255).round().astype(numpy.uint8)), place)
    return whole


@dataclass(frozen=True)
class Ground:
    """The background of the picture. tones: the logarithm of its colours at each pixel (H, W, 3).

    shadow: by how much a part of it is darker, or lighter, in these tones; None if no part is.
    noise: how far the background deviates from `tones`.
    """

    tones: Grey
    shadow: float | None
    noise: float

    def brightness(self) -> Grey:
        grey = (numpy.exp(self.tones) - _DARK) @ numpy.array((0.299, 0.587, 0.114), numpy.float32)
        return grey.clip(1, 255)


def _ground(tones: Grey) -> Ground:
    """Estimate the whole background from the border: a quadratic surface for each colour.

    The surface is fitted to the logarithm, since light multiplies. The fit starts from the most frequent tone
    of the border and takes in what matches: part of the border may be in shadow, or covered by the garment.
    """
    height, width = tones.shape[:2]
    y, x = numpy.meshgrid(numpy.linspace(-1, 1, height), numpy.linspace(-1, 1, width), indexing="ij")
    terms = numpy.stack([numpy.ones_like(x), x, y, x * y, x * x, y * y], axis=2)
    edge = max(2, min(height, width) // 24)
    known, values = border(terms, edge), border(tones, edge)
    mean = values.mean(axis=1)
    counts, edges = numpy.histogram(mean, bins=numpy.arange(mean.min(), mean.max() + 0.17, 0.08))
    most = edges[counts.argmax()]
    fits = (mean >= most - 0.06) & (mean <= most + 0.14)
    off, surface = values, numpy.zeros((6, 3))
    for step in range(10):
        used = (
            6 if step >= 6 and fits.mean() > 0.9 else 3
        )  # with little of the border, fit a plane, which extrapolates better
        surface = numpy.zeros((6, 3))
        surface[:used] = numpy.linalg.lstsq(known[fits][:, :used], values[fits], rcond=None)[0]
        off = values - known @ surface
        new = numpy.abs(off).max(axis=1) <= 0.12
        if new.mean() < 0.1:
            break
        fits = new
    noise = float(numpy.median(numpy.abs(off[fits]).max(axis=1)))
    return Ground((terms @ surface).astype(numpy.float32), _shadow(off[~fits], len(off)), noise)


def _shadow(off: Grey, count: int) -> float | None:
    """Return the tone of the border pixels off the background if it is one grey tone: a change of light."""
    grey = off[numpy.ptp(off, axis=1) < 0.15].mean(axis=1)
    if len(grey) < 0.03 * count:
        return None
    counts, edges = numpy.histogram(grey, bins=numpy.arange(-1.5, 1.6, 0.1))
    tone = float(edges[counts.argmax()]) + 0.05
    near = grey[numpy.abs(grey - tone) < 0.1]
    return float(numpy.median(near)) if len(near) >= 0.02 * count else None


def _covered(off: Grey, ground: Ground) -> Mask:
    """Return where the background is covered; `off` (H, W, 3) is each pixel's distance from the background.

    A shadow's edge has tones between light and dark and changes slowly. A grey object has such tones, too,
    but it has an outline, and the area inside is not connected with the border.
    """
    limit = max(0.1, 4 * ground.noise)
    exact = numpy.abs(off).max(axis=2) <= limit
    alike = exact
    if ground.shadow is not None:
        exact = exact | (numpy.abs(off - ground.shadow).max(axis=2) <= limit)
        low, high = sorted((0.0, ground.shadow))
        between = numpy.abs(off - off.mean(axis=2, keepdims=True).clip(low, high)).max(axis=2) <= limit
        steps = numpy.hypot(*numpy.gradient(off.mean(axis=2)))
        alike = exact | (between & (steps <= 0.06))
    picture = torch.from_numpy(alike)[None, None].float()
    factor = -(-max(alike.shape) // (2 * GRID))
    cells = -F.max_pool2d(-picture, factor, ceil_mode=True)
    outside = torch.from_numpy(_from_border(cells[0, 0].numpy() > 0))[None, None]
    near = F.max_pool2d(outside.float(), 3, 1, 1)[0, 0].numpy() > 0
    large = near.repeat(factor, axis=0).repeat(factor, axis=1)[: alike.shape[0], : alike.shape[1]]
    covered = ~alike | ~large
    holes = divided((exact & covered).astype(numpy.float32), join=0)
    covered &= ~holes.mask([hole for hole in holes.all if hole.area >= _HOLE * covered.sum()])
    return covered if ground.shadow is None else _without_bands(covered)


def _without_bands(mask: Mask) -> Mask:
    """Remove regions narrower than a shadow's edge; keep the others up to their own edges."""
    picture = torch.from_numpy(mask)[None, None].float()
    narrow = -F.max_pool2d(-picture, _BAND, 1, _BAND // 2)
    around = F.max_pool2d(narrow, 2 * _BAND + 1, 1, _BAND)
    return mask & (around[0, 0].numpy() > 0)


def _from_border(ground: Mask) -> Mask:
    """Return the cells that can be reached from the border through background cells."""
    start = numpy.ones(ground.shape, numpy.int64)
    start[1:-1, 1:-1] = 0
    return spread(start, ground) > 0

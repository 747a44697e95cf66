"""Prepare a photograph of a digit as in MNIST (http://yann.lecun.com/exdb/mnist).

Only the strokes are kept, bright on black, scaled in proportion into 20 x 20 pixels, and moved so that their
centre of mass is the centre of 28 x 28.
"""

from __future__ import annotations

from typing import Final

import numpy
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobrelay_train.data.images.regions import SIZE, Grey, Mask, Parts, blurred, border, cut, divided

_DIGIT: Final = 20
#: Range of stroke widths at 20 x 20: 9 in 10 images of MNIST have between 2.0 and 4.0 (median 2.6), and the
#: strokes of a ballpoint pen would be lost.
_THINNEST: Final = 2.1
_THICKEST: Final = 4.4
#: How much darker than the paper ink must be, as a fraction of the paper's brightness, and as a multiple of
#: the paper's own variation.
_CONTRAST: Final = 0.12
_TIMES_NOISE: Final = 6.0
#: Largest width of a digit as a multiple of its height; a line on the paper is wider.
_FLATTEST: Final = 2.5
#: Strokes are narrow (relative to their length), dark, and not at the border; a part that meets fewer than
#: two of the three is a shadow.
_BROADEST: Final = 0.35
_BOLD: Final = 0.3


def digit(image: Image.Image) -> Image.Image | None:
    grey = blurred(numpy.asarray(image.convert("L"), dtype=numpy.float32), 3)
    darkness = _darkness(grey if _is_dark_on_light(grey) else 255 - grey)
    found = _standing_out(darkness, _CONTRAST)
    if found is None:
        return None
    threshold, peak = found
    parts = divided(darkness * (darkness > threshold), join=1)
    chosen = _strokes(parts)
    if chosen is None:
        return None
    ink = ((darkness - threshold / 2) / (0.85 * peak - threshold / 2)).clip(0, 1) * chosen
    return _in_the_middle(_thickened(ink))


def _is_dark_on_light(grey: Grey) -> bool:
    """Whether the pixels that differ most from the border, by ratio as the eye sees, are darker than it."""
    tone = numpy.log(grey + 8)
    ground = float(numpy.median(border(tone, max(1, min(grey.shape) // 20))))
    darkest, lightest = numpy.percentile(tone, (0.5, 99.5))
    return bool(ground - darkest >= lightest - ground)


def _darkness(grey: Grey) -> Grey:
    """Return how much darker each pixel is than the paper at that place, 0 to 1.

    The paper is estimated by filling everything narrower than a third of the picture (closing).
    """
    coarse = torch.from_numpy(grey)[None, None]
    height, width = grey.shape
    factor = max(1, max(height, width) // 80)
    coarse = F.avg_pool2d(coarse, factor, ceil_mode=True, count_include_pad=False)
    reach = max(coarse.shape[-2:]) // 3 | 1
    closed = -F.max_pool2d(-F.max_pool2d(coarse, reach, 1, reach // 2), reach, 1, reach // 2)
    smooth = F.avg_pool2d(closed, 5, 1, 2, count_include_pad=False)
    paper = F.interpolate(smooth, size=(height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
    return (1 - grey / paper.clip(1)).clip(0, 1)  # type: ignore[no-any-return]


def _standing_out(values: Grey, contrast: float) -> tuple[float, float] | None:
    """Return the value from which something stands out, and how far it does; None if nothing does."""
    if numpy.ptp(values) < contrast:
        return None
    threshold = _otsu(values)
    above = values[values > threshold]
    if above.size == 0:
        return None
    ground = values[values <= threshold]
    usual = float(numpy.median(ground))
    noise = 1.48 * float(numpy.median(numpy.abs(ground - usual)))
    peak = float(numpy.percentile(above, 90))
    if peak - usual < max(contrast, _TIMES_NOISE * noise):
        return None
    return max(threshold, usual + 0.45 * (peak - usual)), peak


def _otsu(values: Grey) -> float:
    """Return the threshold that separates the values into the two most different classes (Otsu 1979)."""
    counts, edges = numpy.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    sums = (counts * middles).cumsum()
    with numpy.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(numpy.nan_to_num(between).argmax())])


def _strokes(parts: Parts) -> Mask | None:
    """Return the digit with all its parts, but without specks, ruled lines and the paper's edge."""
    longest = max(parts.shape)
    usable = [
        part
        for part in parts.all
        if max(part.height, part.width) >= 0.04 * longest
        and part.width <= _FLATTEST * part.height
        and not (part.height >= 0.8 * parts.shape[0] and part.area < 0.03 * longest * part.height)
        and (part.thickness <= _BROADEST) + (part.mass >= _BOLD * part.area) + (not part.at_border) >= 2
    ]
    if not usable:
        return None
    inside = [part for part in usable if not part.at_border]
    if inside and max(part.mass for part in inside) > 0.05 * max(part.mass for part in usable):
        usable = inside
    largest = max(usable, key=lambda part: part.mass)
    reach = 0.3 * max(largest.height, largest.width)
    chosen = [
        part
        for part in parts.all
        if part is largest
        or (
            (part in usable or not part.at_border)
            and part.mass >= 0.03 * largest.mass
            and part.gap(largest) <= reach
        )
    ]
    return parts.mask(chosen)


def _thickened(ink: Grey) -> Grey:
    """Make strokes as wide as MNIST's, and crop to their edges."""
    for _ in range(2):
        ink = cut(ink, ink > 0.5)
        steps = numpy.hypot(*numpy.gradient(numpy.pad(ink, 1)))
        width = 2 * float(ink.sum()) / max(float(steps.sum()), 1e-6)
        wanted = numpy.clip(width, *(limit * max(ink.shape) / _DIGIT for limit in (_THINNEST, _THICKEST)))
        reach = round(abs(wanted - width) / 2)
        if not reach:
            return ink
        values = torch.from_numpy(numpy.pad(ink, reach))[None, None]
        disc = 2 * reach + 1
        changed = (
            F.max_pool2d(values, disc, 1, reach) if wanted > width else -F.max_pool2d(-values, disc, 1, reach)
        )
        if wanted < width and float(changed.max()) <= 0.5:
            return ink
        ink = changed[0, 0].numpy()
    return cut(ink, ink > 0.5)


def _in_the_middle(ink: Grey) -> Image.Image:
    """Scale into 20 x 20, and move the centre of mass to the middle of 28 x 28."""
    height, width = ink.shape
    scale = _DIGIT / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = numpy.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BOX))
    small = small / max(float(small.max()), 1e-6)
    rows, columns = numpy.indices(small.shape)
    middle = SIZE / 2
    top, left = (
        int(numpy.clip(round(middle - float((places * small).sum() / small.sum())), 0, SIZE - length))
        for places, length in zip((rows, columns), small.shape, strict=True)
    )
    whole = numpy.zeros((SIZE, SIZE), numpy.uint8)
    whole[top : top + small.shape[0], left : left + small.shape[1]] = (small * 255).round()
    return Image.fromarray(whole)

"""Prepare a photograph of a digit or a garment as the images were that the model was trained on.

The background, its light and its shadows are found first and removed. The rest must stand out from the
background's noise: blank paper counts as nothing.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy
from PIL import Image, ImageOps

from jobrelay_train.data.images.garments import garment
from jobrelay_train.data.images.regions import SIZE, border
from jobrelay_train.data.images.strokes import digit

Subject = Literal["digit", "garment"]

#: Pictures are searched at this longest edge; a digit that fills a tenth of it has 48 pixels.
WORKING_PIXELS: Final = 480
#: A smaller picture is enlarged, because the search uses sizes in pixels.
_LEAST_PIXELS: Final = 160


def prepared(image: Image.Image, subject: Subject) -> Image.Image | None:
    """Turn a picture (RGB, upright, any size) into grey 28 x 28, bright on black; None if it is empty."""
    if native := _native(image):
        return native
    longest = max(image.size)
    scale = min(_LEAST_PIXELS / longest, 8) if longest < _LEAST_PIXELS else min(1, WORKING_PIXELS / longest)
    if scale != 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    return digit(image) if subject == "digit" else garment(image)


def _native(image: Image.Image) -> Image.Image | None:
    """Return an image that has 28 x 28 pixels, or these pixels repeated; inverted if it is on white.

    An image on grey is a photograph, however small.
    """
    grey = numpy.asarray(image.convert("L"))
    if image.size != (SIZE, SIZE):
        if image.width != image.height or image.width < 2 * SIZE:
            return None
        places = ((numpy.arange(SIZE) + 0.5) * image.width / SIZE).astype(int)
        small = grey[numpy.ix_(places, places)]
        which = (numpy.arange(image.width) * SIZE) // image.width
        if (numpy.abs(small[numpy.ix_(which, which)].astype(int) - grey) > 2).mean() > 0.001:
            return None
        grey = small
    if numpy.ptp(grey) < 16:  # blank: handled as any other picture
        return None
    ground = float(numpy.median(border(grey, 1)))
    if ground < 128:
        return Image.fromarray(grey)
    return ImageOps.invert(Image.fromarray(grey)) if ground >= 250 else None

"""A photograph prepared as the images were that a model has learnt from: of a digit, or of a garment.

What the picture was taken on, its light and its shadows are found first, and taken out. What is left must
stand out from the noise of the ground: paper with nothing on it is nothing.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy
from PIL import Image, ImageOps

from jobrelay_train.data.images.garments import garment
from jobrelay_train.data.images.regions import SIZE, border
from jobrelay_train.data.images.strokes import digit

Subject = Literal["digit", "garment"]

#: The longest edge of a picture that is looked at; a digit that fills a tenth of it has 48 pixels.
WORKING_PIXELS: Final = 480
#: A smaller picture is enlarged: what is looked for in it has a size in pixels.
_LEAST_PIXELS: Final = 160


def prepared(image: Image.Image, subject: Subject) -> Image.Image | None:
    """A picture (RGB, upright, of any size) in grey, 28 x 28, bright on black; None: nothing is on it."""
    if native := _native(image):
        return native
    longest = max(image.size)
    scale = min(_LEAST_PIXELS / longest, 8) if longest < _LEAST_PIXELS else min(1, WORKING_PIXELS / longest)
    if scale != 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    return digit(image) if subject == "digit" else garment(image)


def _native(image: Image.Image) -> Image.Image | None:
    """An image of the very size, or one whose pixels were only repeated; its negative if it is on white.

    On grey it is a photograph, however small.
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
    if numpy.ptp(grey) < 16:  # nothing, which is found out as with any other picture
        return None
    ground = float(numpy.median(border(grey, 1)))
    if ground < 128:
        return Image.fromarray(grey)
    return ImageOps.invert(Image.fromarray(grey)) if ground >= 250 else None

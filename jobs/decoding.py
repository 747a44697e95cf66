"""One image file as the pixels that a model takes, at a bounded cost, whatever is in the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

import numpy
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from jobs.cgroup import memory_bytes, usable_cpus
from jobs.contract.archive import ArchiveError, safe_name
from jobs.weights import one_line

#: Channels, height, width; of one channel it is grey, of three RGB.
Shape = tuple[int, int, int]

FILE_BYTES: Final = 64 * 1024 * 1024
_FORMATS: Final = ("PNG", "JPEG", "WEBP")
_PIXELS: Final = 32 * 1024 * 1024
#: What an image takes while it is converted, at most.
_BYTES: Final = 9 * _PIXELS
#: Of the memory that is allowed, what may be filled by images that are being converted.
_SHARE: Final = 0.5
#: Scaled down to so many times what is wanted, and further only when all else is done.
_ENOUGH: Final = 4
_ALPHA: Final = ("RGBA", "LA", "PA", "La", "RGBa")

Image.MAX_IMAGE_PIXELS = None  # its own check only warns up to twice of what it is told; see read_image


class Unusable(ValueError):
    """A file is no image that can be taken; the message says why."""


class Unreadable(Unusable):
    """It could not be looked at, and may be good: the disk, its permissions, or no memory."""


def threads() -> int:
    """How many files to read at once. Pillow decodes without the GIL."""
    return max(1, min(usable_cpus(), int(memory_bytes() * _SHARE) // _BYTES))


def is_safe(name: str) -> bool:
    """Whether a file's name, relative to its folder, is one that `put` brings: UTF-8, and not out of it."""
    try:
        safe_name(name)
    except ArchiveError:
        return False
    return True


def read_image(folder: Path, name: str, shape: Shape) -> Tensor:
    """One file as uint8 (channels, height, width). Raises Unusable.

    It is scaled with its proportions kept. For a grey model it is also turned into its negative if its
    border is bright, unless it is a grey image of the very size: a photograph has its thing on a light
    ground, MNIST and Fashion-MNIST have it on black.
    """
    if not is_safe(name):
        raise Unusable("its name is not one that `put` brings")
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size == 0:
            raise Unusable("it is empty")
        if size > FILE_BYTES:
            raise Unusable(f"it has {size:,} bytes, {FILE_BYTES:,} at most are read")
        try:
            with Image.open(file, formats=_FORMATS) as image:
                width, height = image.size
                if width * height > _PIXELS:  # known from its header, before anything is unpacked
                    raise Unusable(f"it has {width} x {height} pixels, {_PIXELS:,} at most are read")
                return _pixels(_as_the_model_takes_it(image, shape))
        except UnidentifiedImageError as error:
            raise Unusable("it is not a PNG, JPEG or WebP image") from error
        except Unusable:
            raise
        except Exception as error:  # a decoder given any bytes raises much that it does not promise
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
                raise Unreadable(f"it cannot be read: {one_line(error)}") from error
            raise Unusable(f"it is damaged: {one_line(error)}") from error


def _pixels(image: Image.Image) -> Tensor:
    """uint8 (C, H, W), of RGB with the colours of a pixel side by side in memory."""
    pixels = torch.from_numpy(numpy.array(image))
    return pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def _as_the_model_takes_it(image: Image.Image, shape: Shape) -> Image.Image:
    channels, height, width = shape
    if channels == 1 and image.mode == "L" and image.size == (width, height):
        return image
    mode: Literal["L", "RGB"] = "L" if channels == 1 else "RGB"
    plain = ImageOps.exif_transpose(_plain(image, mode, (width * _ENOUGH, height * _ENOUGH)))
    if channels == 3 and plain.size == (width, height):
        return plain
    border = _border(plain)
    ground = tuple(round(mean) for mean in border)
    fitted = ImageOps.pad(
        plain,
        (width, height),
        method=Image.Resampling.LANCZOS,
        color=ground if channels == 3 else ground[0],
    )
    return ImageOps.invert(fitted) if channels == 1 and border[0] > 127 else fitted


def _plain(image: Image.Image, mode: Literal["L", "RGB"], enough: tuple[int, int]) -> Image.Image:
    """8 bits a channel, without transparency."""
    image.draft(mode, enough)  # of a JPEG, no more is decoded than is needed
    if image.mode.startswith("I"):  # 16 bits a pixel, which `convert` would cut at 255
        deep = image.convert("I")
        deep.thumbnail(enough)  # here and below before the rest, so that the rest needs little memory
        return deep.point(lambda value: value * (1 / 256)).convert("L").convert(mode)
    if image.mode in _ALPHA or "transparency" in image.info:  # on white, as a browser shows it
        clear = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
        clear.thumbnail(enough)
        clear = clear.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert(mode)
    return image.convert(mode)


def _border(image: Image.Image) -> list[float]:
    """The mean of the outermost pixels, for each channel."""
    pixels = numpy.asarray(image)
    edges = numpy.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return [float(mean) for mean in numpy.atleast_1d(edges.mean(axis=0))]

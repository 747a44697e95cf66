"""One image file as the pixels that a model takes, at a bounded cost, whatever is in the file."""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy
import torch
from PIL import Image, ImageOps, features
from torch import Tensor

from jobs.cgroup import memory_bytes, usable_cpus
from jobs.contract.archive import ArchiveError, safe_name
from jobs.contract.safe_read import TooLarge, read_bytes
from jobs.filekinds import HEAD_BYTES, IMAGES, kind_of
from jobs.photographs import WORKING_PIXELS, Subject, prepared
from jobs.sidedata import Stripped, orientation_of, stripped, webp_size
from jobs.weights import one_line

#: Channels, height, width; of one channel it is grey, of three RGB.
Shape = tuple[int, int, int]

FILE_BYTES: Final = 64 * 1024 * 1024
#: What the decoding of one image may take beside its file, and all those that are decoded at once.
_MOST_BYTES: Final = 512 * 1024 * 1024
#: Of the memory that is allowed, what may be filled with images that are decoded, and with their files.
_SHARE: Final = 0.5
_FILE_SHARE: Final = 0.25
#: Scaled down to so many times what is wanted, and further only when all else is done.
_ENOUGH: Final = 4
#: Pixels that are converted at a time: colours, transparency and depth cost more than the image does.
_STRIP: Final = 1 << 20
_ALPHA: Final = ("RGBA", "LA", "PA", "La", "RGBa")
#: Bytes of a pixel in Pillow's memory, of modes that have not 4.
_PIXEL_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
#: How many times Pillow holds the image while it decodes it, and bytes a pixel of two whose decoders
#: have canvases of their own.
_COPIES: Final = {"TIFF": 2, "BMP": 2, "GIF": 2}
_CANVAS_BYTES: Final = {"WEBP": 16, "AVIF": 16}
#: By EXIF's numbers, what turns the image upright.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Image.MAX_IMAGE_PIXELS = None  # its own check counts pixels, and warns without naming the file; see _require
# Nor does any other of its warnings name a file, and none says more than whether there are pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Unusable(ValueError):
    """A file is no image that can be taken; the message says why."""


class NothingFound(Unusable):
    """A photograph of nothing: `picture` uint8 (1, height, width) is what was looked at."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__("nothing was found in it")
        self.picture = picture


class Unreadable(Unusable):
    """It could not be looked at, and may be good: the disk, its permissions, or no memory."""


def threads() -> int:
    """How many files to read at once. Pillow decodes without the GIL."""
    files = int(memory_bytes() * _FILE_SHARE) // (2 * FILE_BYTES)  # as it is, and without side data
    return max(1, min(usable_cpus(), files))


def is_safe(name: str) -> bool:
    """Whether a file's name, relative to its folder, is one that `put` brings: UTF-8, and not out of it."""
    try:
        safe_name(name)
    except ArchiveError:
        return False
    return True


def read_image(folder: Path, name: str, shape: Shape, subject: Subject = "digit") -> Tensor:
    """One file as uint8 (channels, height, width). Raises Unusable, NothingFound.

    RGB images are scaled with their proportions kept. For a grey model, which knows MNIST or Fashion-MNIST,
    the digit or the garment (`subject`) is looked for and prepared as it was there: see jobs.photographs.
    """
    if not is_safe(name):
        raise Unusable("`put` would not copy a file of this name")
    try:
        content = read_bytes(folder / name, FILE_BYTES, root=folder)
    except TooLarge as error:
        raise Unusable(f"it {error.strerror}, the most that is read") from error
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from error
    image_format = _image_format(content)
    channels, height, width = shape
    enough = _ENOUGH * max(width, height) if channels == 3 else WORKING_PIXELS
    try:
        plain = _decoded(content, image_format, enough)
        if channels == 3:
            return _pixels(_fitted(plain, (width, height)))
        found = prepared(plain, subject)
        if found is None:
            raise NothingFound(_pixels(_fitted(plain, (width, height)).convert("L")))
        return _pixels(found)
    except Unusable:
        raise
    except Exception as error:  # a decoder given any bytes raises much that it does not promise
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
            raise Unreadable(f"it cannot be read: {one_line(error)}") from error
        raise Unusable(f"it is damaged: {one_line(error)}") from error


def _image_format(content: bytes) -> str:
    """Which of Pillow's formats it is; Unusable, by its right name, if it is none that is read here."""
    kind = kind_of(content[:HEAD_BYTES])
    if kind == "an AVIF image" and not features.check("avif"):
        raise Unusable("it is an AVIF image, which this build of Pillow does not read")
    if kind not in IMAGES:
        raise Unusable(
            "it is empty"
            if not content
            else f"it is {kind}; PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF images are read"
        )
    return IMAGES[kind]


def _decoded(content: bytes, image_format: str, enough: int) -> Image.Image:
    """The first image in it, upright, its longest edge at least `enough` pixels if it has so many.

    It has less than twice as many then; RGB, without transparency.
    """
    plain = stripped(content, image_format)
    if image_format == "WEBP":
        _require("WEBP", *webp_size(plain.content), "RGBA", 0)
    with Image.open(io.BytesIO(plain.content), formats=(image_format,)) as image:
        full_size = image.size
        image.draft("RGB", (enough, enough))  # of a JPEG, no more is decoded than is needed
        with _room(image_format, image, plain, full_size):
            small = _reduced(image, enough)
        turn = _TURNS.get(_orientation(image, plain))
        return small if turn is None else small.transpose(turn)


def _orientation(image: Image.Image, plain: Stripped) -> int:
    if image.format == "AVIF":  # which way its own boxes turn it, as Pillow says it
        return orientation_of(image.info.get("exif", b"")) or 1
    return plain.orientation


@contextmanager
def _room(
    image_format: str, image: Image.Image, plain: Stripped, full_size: tuple[int, int]
) -> Iterator[None]:
    """Memory to decode the image in, waited for while others have it. Raises Unusable if it never comes."""
    needed = _require(image_format, *image.size, image.mode, plain.buffered_bytes, full_size)
    with _turn:
        while _in_use[0] and _in_use[0] + needed > _allowed():
            _turn.wait()
        _in_use[0] += needed
    try:
        yield
    finally:
        with _turn:
            _in_use[0] -= needed
            _turn.notify_all()


#: Bytes that are taken by images which are decoded at this moment.
_in_use: Final = [0]
_turn: Final = threading.Condition()


def _allowed() -> int:
    return min(_MOST_BYTES, int(memory_bytes() * _SHARE))


def _require(
    image_format: str,
    width: int,
    height: int,
    mode: str,
    buffered_bytes: int,
    full_size: tuple[int, int] | None = None,
) -> int:
    """Bytes that it takes to decode an image of which the header says this. Raises Unusable."""
    each = _CANVAS_BYTES.get(image_format, _PIXEL_BYTES.get(mode, 4) * _COPIES.get(image_format, 1))
    needed = width * height * each + buffered_bytes
    takes = "{} x {} pixels, which take {:,} MiB to decode".format(
        *(full_size or (width, height)), math.ceil(needed / 2**20)
    )
    if needed > _MOST_BYTES:
        raise Unusable(f"it has {takes}; {_MOST_BYTES // 2**20} MiB is the most for one image")
    if needed > _allowed():
        raise Unreadable(
            f"it has {takes}; {_allowed() // 2**20} MiB may be used for that here: give the stage more memory"
        )
    return needed


def _reduced(image: Image.Image, enough: int) -> Image.Image:
    """The image in RGB, as a mean of so many pixels that it is less than twice as large as enough."""
    image.load()
    factor = max(1, max(image.size) // enough)
    white = _white(image)
    rows = factor * max(1, _STRIP // (image.width * factor))
    small = Image.new("RGB", (math.ceil(image.width / factor), math.ceil(image.height / factor)))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        plain = _plain(strip, white)
        small.paste(plain if factor == 1 else plain.reduce(factor), (0, top // factor))
    return small


def _white(image: Image.Image) -> float:
    """What of an image with more than 8 bits a channel is white."""
    if image.mode.startswith("I;16"):
        return 65535
    if image.mode not in ("I", "F"):
        return 255
    _, most = image.getextrema()
    assert isinstance(most, int | float)
    return next((white for white in (1, 255, 65535) if most <= white), most)


def _plain(strip: Image.Image, white: float) -> Image.Image:
    """RGB, 8 bits a channel, without transparency."""
    if strip.mode.startswith(("I", "F")):  # deeper, which `convert` would cut at 255
        values = numpy.asarray(strip, dtype=numpy.float32) * (255 / white)
        return Image.fromarray(values.clip(0, 255).astype(numpy.uint8)).convert("RGB")
    if strip.mode in _ALPHA or "transparency" in strip.info:  # on white, as a browser shows it
        clear = strip.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return strip.convert("RGB")


def _pixels(image: Image.Image) -> Tensor:
    """uint8 (C, H, W), of RGB with the colours of a pixel side by side in memory."""
    pixels = torch.from_numpy(numpy.array(image))
    return pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def _fitted(plain: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scaled, and filled up with the mean colour of its border."""
    if plain.size == size:
        return plain
    pixels = numpy.asarray(plain)
    edges = numpy.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = tuple(round(float(mean)) for mean in edges.mean(axis=0))
    return ImageOps.pad(plain, size, method=Image.Resampling.LANCZOS, color=ground)

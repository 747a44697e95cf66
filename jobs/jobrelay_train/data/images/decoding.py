"""Decode an image file into a model's pixels, at a bounded cost, whatever the file contains."""

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

from jobrelay_runner.errors import one_line
from jobrelay_runner.usage.cgroup import memory_bytes, usable_cpus
from jobrelay_runner.volume.archive import ArchiveError, safe_name
from jobrelay_runner.volume.safe_read import TooLarge, read_bytes
from jobrelay_train.data.filekinds import HEAD_BYTES, IMAGES, kind_of
from jobrelay_train.data.images.photographs import WORKING_PIXELS, Subject, prepared
from jobrelay_train.data.images.sidedata import Stripped, orientation_of, stripped, webp_size

#: Channels, height, width; of one channel it is grey, of three RGB.
Shape = tuple[int, int, int]

FILE_BYTES: Final = 64 * 1024 * 1024
#: Memory limit for decoding, not counting files: of one image, and of all images decoded at once.
_MOST_BYTES: Final = 512 * 1024 * 1024
#: Shares of the allowed memory: for images being decoded, and for their files.
_SHARE: Final = 0.5
_FILE_SHARE: Final = 0.25
#: Images are first scaled down to this multiple of the final size, and to the final size as the last step.
_ENOUGH: Final = 4
#: Pixels converted at a time: converting colours, transparency and depth needs more memory than the image.
_STRIP: Final = 1 << 20
_ALPHA: Final = ("RGBA", "LA", "PA", "La", "RGBa")
#: Bytes per pixel in Pillow's memory, for modes that do not have 4.
_PIXEL_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
#: How many copies of the image Pillow holds while it decodes, and bytes per pixel for two formats whose
#: decoders have their own canvases.
_COPIES: Final = {"TIFF": 2, "BMP": 2, "GIF": 2}
_CANVAS_BYTES: Final = {"WEBP": 16, "AVIF": 16}
#: The transposition that turns the image upright, by EXIF's numbers.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Image.MAX_IMAGE_PIXELS = None  # Pillow's check counts pixels, and its warning names no file; see _require
# Pillow's other warnings name no file either, and say no more than whether there are pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Unusable(ValueError):
    """A file is not an image that can be used; the message says why."""


class NothingFound(Unusable):
    """A photograph with nothing on it; `picture` uint8 (1, height, width) is the image that was searched."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__("nothing was found in it")
        self.picture = picture


class Unreadable(Unusable):
    """A file could not be read but may be fine: the disk, permissions, or memory is at fault."""


def threads() -> int:
    """Return how many files to read at once. Pillow decodes without the GIL."""
    files = int(memory_bytes() * _FILE_SHARE) // (2 * FILE_BYTES)  # the file, and a copy without side data
    return max(1, min(usable_cpus(), files))


def is_safe(name: str) -> bool:
    """Whether `put` copies files of this relative name: it is UTF-8 and stays in the folder."""
    try:
        safe_name(name)
    except ArchiveError:
        return False
    return True


def read_image(folder: Path, name: str, shape: Shape, subject: Subject = "digit") -> Tensor:
    """Read one file as uint8 (channels, height, width). Raises Unusable, NothingFound.

    RGB images are scaled in proportion. For a grey model, which has learnt MNIST or Fashion-MNIST, the digit
    or garment (`subject`) is located and prepared as in that data set: see photographs.
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
    except Exception as error:  # on arbitrary bytes, a decoder raises many undocumented errors
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
            raise Unreadable(f"it cannot be read: {one_line(error)}") from error
        raise Unusable(f"it is damaged: {one_line(error)}") from error


def _image_format(content: bytes) -> str:
    """Return Pillow's name of the format. Raises Unusable, naming the format, if it is not supported."""
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
    """Decode the first image, upright, in RGB and without transparency.

    Its longest edge has at least `enough` pixels, if the file has as many, and less than twice as many.
    """
    plain = stripped(content, image_format)
    if image_format == "WEBP":
        _require("WEBP", *webp_size(plain.content), "RGBA", 0)
    with Image.open(io.BytesIO(plain.content), formats=(image_format,)) as image:
        full_size = image.size
        image.draft("RGB", (enough, enough))  # decodes a JPEG at no higher resolution than needed
        with _room(image_format, image, plain, full_size):
            small = _reduced(image, enough)
        turn = _TURNS.get(_orientation(image, plain))
        return small if turn is None else small.transpose(turn)


def _orientation(image: Image.Image, plain: Stripped) -> int:
    if image.format == "AVIF":  # its own boxes give the orientation, which Pillow reports as EXIF
        return orientation_of(image.info.get("exif", b"")) or 1
    return plain.orientation


@contextmanager
def _room(
    image_format: str, image: Image.Image, plain: Stripped, full_size: tuple[int, int]
) -> Iterator[None]:
    """Reserve memory to decode the image, waiting for other threads. Raises Unusable if it never suffices."""
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


#: Bytes used by the images that are being decoded at this moment.
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
    """Return the bytes needed to decode an image with this header. Raises Unusable if they are too many."""
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
    """Return the image in RGB, averaging pixels until it is less than twice as large as `enough`."""
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
    """Return the value for white in an image with more than 8 bits per channel."""
    if image.mode.startswith("I;16"):
        return 65535
    if image.mode not in ("I", "F"):
        return 255
    _, most = image.getextrema()
    assert isinstance(most, int | float)
    return next((white for white in (1, 255, 65535) if most <= white), most)


def _plain(strip: Image.Image, white: float) -> Image.Image:
    """Convert to RGB, 8 bits per channel, without transparency."""
    if strip.mode.startswith(("I", "F")):  # more than 8 bits, which `convert` would clip at 255
        values = numpy.asarray(strip, dtype=numpy.float32) * (255 / white)
        return Image.fromarray(values.clip(0, 255).astype(numpy.uint8)).convert("RGB")
    if strip.mode in _ALPHA or "transparency" in strip.info:  # on white, as a browser shows it
        clear = strip.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return strip.convert("RGB")


def _pixels(image: Image.Image) -> Tensor:
    """Return the image as uint8 (C, H, W); an RGB pixel's colours are adjacent in memory."""
    pixels = torch.from_numpy(numpy.array(image))
    return pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)


def _fitted(plain: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale the image to fit and pad it with the mean colour of its border."""
    if plain.size == size:
        return plain
    pixels = numpy.asarray(plain)
    edges = numpy.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = tuple(round(float(mean)) for mean in edges.mean(axis=0))
    return ImageOps.pad(plain, size, method=Image.Resampling.LANCZOS, color=ground)

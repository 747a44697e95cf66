"""A folder of image files as what the models take: grey, 28 x 28, bright on black.

People put all kinds of files there. One that cannot be used is told and left out, and none can cost
more than a bounded amount of memory, or lead out of the folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from jobs.cgroup import usable_cpus
from jobs.contract.archive import ArchiveError, safe_name
from jobs.errors import BadInput
from jobs.weights import one_line

SIZE: Final = (28, 28)
#: Each has a line in the record, which is read as a whole.
MOST_FILES: Final = 100_000
_FORMATS: Final = ("PNG", "JPEG", "WEBP")
_FILE_BYTES: Final = 64 * 1024 * 1024
#: Nine bytes each while they are converted, and as many images at once as there are threads: 1.1 GiB.
_PIXELS: Final = 32 * 1024 * 1024
_THREADS: Final = 4
#: Scaled down further only when all else is done.
_ENOUGH: Final = (SIZE[0] * 4, SIZE[1] * 4)
_ALPHA: Final = ("RGBA", "LA", "PA", "La", "RGBa")

Image.MAX_IMAGE_PIXELS = None  # its own check only warns up to twice of what it is told; see read_image


class Unusable(ValueError):
    """A file is no image that can be taken; the message says why."""


@dataclass(frozen=True)
class ImageFiles:
    """images: uint8 (N, 1, 28, 28), of the files `names`; skipped: why each other file was not taken."""

    images: Tensor
    names: tuple[str, ...]
    skipped: dict[str, str]


def list_files(folder: Path) -> list[str]:
    """Names of all regular files below `folder`, relative to it, sorted; hidden ones are left out.

    Raises BadInput if there is no folder, or none or too many in it.
    """
    if not folder.is_dir():
        raise BadInput(
            f"{folder} is not there; to copy the images in DIR onto the volume: "
            f"python launcher put DIR {folder.name}"
        )
    names = sorted(islice(_regular_files(folder), MOST_FILES + 1))
    if not names:
        raise BadInput(f"{folder} holds no files")
    if len(names) > MOST_FILES:
        raise BadInput(f"{folder} holds more than {MOST_FILES:,} files; divide it into several")
    return names


def _regular_files(folder: Path) -> Iterator[str]:
    for here, folders, files in os.walk(folder):  # which does not follow links
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(here, name)
            if not name.startswith(".") and stat.S_ISREG(path.lstat().st_mode):
                yield str(path.relative_to(folder))


def read_files(folder: Path, names: Iterable[str], wanted: int) -> ImageFiles:
    """The first `wanted` of these files that can be read; the rest is not looked at.

    Raises BadInput if not one can.
    """
    images: list[Tensor] = []
    taken: list[str] = []
    skipped: dict[str, str] = {}
    left = iter(names)
    with ThreadPoolExecutor(min(_THREADS, usable_cpus())) as threads:  # Pillow decodes without the GIL
        while len(taken) < wanted and (some := list(islice(left, min(wanted - len(taken), 256)))):
            for name, image in zip(some, threads.map(lambda name: _try(folder, name), some), strict=True):
                if isinstance(image, str):
                    skipped[name] = image
                else:
                    images.append(image)
                    taken.append(name)
    if not taken:
        first = ", ".join(f"{shown(name)}: {why}" for name, why in islice(skipped.items(), 3))
        raise BadInput(f"{folder}: none of {len(skipped):,} files can be taken ({first})")
    return ImageFiles(torch.stack(images), tuple(taken), skipped)


def _try(folder: Path, name: str) -> Tensor | str:
    try:
        return read_image(folder, name)
    except Unusable as error:
        return str(error)


def read_image(folder: Path, name: str) -> Tensor:
    """One file as uint8 (1, 28, 28). Raises Unusable.

    A grey image of 28 x 28 is taken as it is. Any other one is scaled with its proportions kept, and
    turned into its negative if its border is bright: a photograph has its thing on a light ground, MNIST
    and Fashion-MNIST have it on black.
    """
    try:
        safe_name(name)
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW)
    except ArchiveError as error:
        raise Unusable("its name is not one that `put` brings") from error
    except OSError as error:
        raise Unusable(f"it cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size == 0:
            raise Unusable("it is empty")
        if size > _FILE_BYTES:
            raise Unusable(f"it has {size:,} bytes, {_FILE_BYTES:,} at most are read")
        try:
            with Image.open(file, formats=_FORMATS) as image:
                width, height = image.size
                if width * height > _PIXELS:  # known from its header, before anything is unpacked
                    raise Unusable(f"it has {width} x {height} pixels, {_PIXELS:,} at most are read")
                return torch.from_numpy(numpy.array(_as_the_model_takes_it(image))).unsqueeze(0)
        except UnidentifiedImageError as error:
            raise Unusable("it is not a PNG, JPEG or WebP image") from error
        except Unusable:
            raise
        except Exception as error:  # a decoder given any bytes raises much that it does not promise
            raise Unusable(f"it is damaged: {one_line(error)}") from error


def _as_the_model_takes_it(image: Image.Image) -> Image.Image:
    if image.mode == "L" and image.size == SIZE:
        return image
    grey = ImageOps.exif_transpose(_grey(image))
    border = _border(grey)
    fitted = ImageOps.pad(grey, SIZE, method=Image.Resampling.LANCZOS, color=round(border))
    return ImageOps.invert(fitted) if border > 127 else fitted


def _grey(image: Image.Image) -> Image.Image:
    image.draft("L", _ENOUGH)  # of a JPEG, no more is decoded than is needed
    if image.mode.startswith("I"):  # 16 bits a pixel, which `convert` would cut at 255
        deep = image.convert("I")
        deep.thumbnail(_ENOUGH)  # here and below before the rest, so that the rest needs little memory
        return deep.point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in _ALPHA or "transparency" in image.info:  # on white, as a browser shows it
        clear = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
        clear.thumbnail(_ENOUGH)
        clear = clear.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("L")
    return image.convert("L")


def _border(image: Image.Image) -> float:
    """The mean brightness of the outermost pixels."""
    pixels = numpy.asarray(image)
    return float(numpy.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean())


def shown(name: str) -> str:
    """A name on one line of a log, whatever it holds."""
    return name if name.isprintable() else ascii(name)

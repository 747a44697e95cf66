"""List the image files below a folder, and read them in the form that a model takes.

People put all kinds of files there. A file that cannot be used is reported and skipped, and no file can take
more than a bounded amount of memory or lead out of the folder.
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

import torch
from torch import Tensor

from jobrelay_runner.errors import BadInput
from jobrelay_runner.text.counting import counted
from jobrelay_runner.usage.cgroup import memory_bytes
from jobrelay_runner.volume.files import cannot_be_listed
from jobrelay_runner.volume.layout import shown as shown
from jobrelay_train.data.images.decoding import NothingFound, Shape, Unusable, read_image, threads
from jobrelay_train.data.images.photographs import Subject

#: Each file has a line in the record, which is read as a whole.
MOST_FILES: Final = 100_000
#: Share of the allowed memory that the images of one `infer` may take.
_SHARE: Final = 0.25


@dataclass(frozen=True)
class ImageFiles:
    """Images uint8 (N, C, H, W) of the files `names`; skipped: why each other file was not used.

    nothing: photographs with nothing on them, as uint8 (C, H, W).
    """

    images: Tensor
    names: tuple[str, ...]
    skipped: dict[str, str]
    nothing: dict[str, Tensor]


def list_files(folder: Path) -> list[str]:
    """Return the sorted relative names of all regular files below `folder`, except hidden ones.

    Raises BadInput if the folder does not exist, is empty, or has too many files.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is missing; put the folder of images on the volume as data/{folder.name}")
    names = sorted(islice(_regular_files(folder), MOST_FILES + 1))
    if not names:
        raise BadInput(f"{folder} holds no files")
    if len(names) > MOST_FILES:
        raise BadInput(f"{folder} holds more than {MOST_FILES:,} files; split it into several folders")
    return names


def _regular_files(folder: Path) -> Iterator[str]:
    for here, folders, files in os.walk(folder, onerror=cannot_be_listed):  # follows no links
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(here, name)
            if not name.startswith(".") and stat.S_ISREG(path.lstat().st_mode):
                yield str(path.relative_to(folder))


def read_files(
    folder: Path, names: Iterable[str], wanted: int, shape: Shape, subject: Subject = "digit"
) -> ImageFiles:
    """Read the first `wanted` of these files that can be read; ignore the rest.

    Raises BadInput if none can be read, or if they do not fit in memory. A file with nothing on it counts as
    read.
    """
    most = int(memory_bytes() * _SHARE)
    if (size := wanted * shape[0] * shape[1] * shape[2]) > most:
        raise BadInput(
            f"{folder}: {wanted:,} images of {shape[1]} x {shape[2]} take {size / 2**20:,.0f} MiB, and "
            f"{most / 2**20:,.0f} MiB can be used for them here; --set infer.samples=N classifies fewer, "
            "or --set infer.memory=… gives the stage more memory"
        )
    images = torch.empty(wanted, *shape, dtype=torch.uint8)  # takes memory only where it is written
    taken: list[str] = []
    skipped: dict[str, str] = {}
    nothing: dict[str, Tensor] = {}

    def missing() -> int:
        return wanted - len(taken) - len(nothing)

    left = iter(names)
    with ThreadPoolExecutor(threads()) as pool:
        while missing() and (some := list(islice(left, min(missing(), 256)))):
            for name, image in zip(
                some, pool.map(lambda name: _try(folder, name, shape, subject), some), strict=True
            ):
                if isinstance(image, str):
                    skipped[name] = image
                elif isinstance(image, NothingFound):
                    nothing[name] = image.picture
                else:
                    images[len(taken)] = image
                    taken.append(name)
    if not taken and not nothing:
        first = ", ".join(f"{shown(name)}: {why}" for name, why in islice(skipped.items(), 3))
        raise BadInput(f"{folder}: no usable image in {counted(len(skipped), 'file')} ({first})")
    return ImageFiles(images[: len(taken)], tuple(taken), skipped, nothing)


def _try(folder: Path, name: str, shape: Shape, subject: Subject) -> Tensor | NothingFound | str:
    try:
        return read_image(folder, name, shape, subject)
    except NothingFound as error:
        return error
    except Unusable as error:
        return str(error)

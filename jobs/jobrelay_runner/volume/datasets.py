"""The data sets on a volume: their names, sizes and apparent contents."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from jobrelay_runner.volume import folders
from jobrelay_runner.volume.layout import Layout, LayoutError, files, lay_out
from jobrelay_runner.volume.paths import below
from jobrelay_runner.volume.typed_json import Typed

#: If a folder holds more files, their names are not examined.
_MOST_NAMES: Final = 200_000
_LONGEST: Final = 255
_IMAGES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
_IDX: Final = re.compile(r"(.*/)?(train|t10k)[-.](images|labels)[-.]idx[13][-.]ubyte(\.gz)?")


@dataclass(frozen=True)
class DataSet(Typed):
    """A folder data/NAME: its own files, their apparent contents, and what stages have cached of it."""

    name: str
    files: int
    bytes: int
    contents: str
    cache_bytes: int = 0

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= _LONGEST or len(self.contents) > _LONGEST:
            raise ValueError("a name or contents of a length that cannot be")
        if min(self.files, self.bytes, self.cache_bytes) < 0:
            raise ValueError("less than nothing")


@dataclass(frozen=True)
class Contents:
    """What the names of the files show.

    layout: of an image folder; problem: why a folder that looks like an image folder is not usable as one.
    """

    kind: str
    layout: Layout | None = None
    problem: str | None = None


def contents(names: Iterable[str]) -> Contents:
    """Guess what a folder with these files contains."""
    visible = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    if visible and all(_IDX.fullmatch(name) for name in visible):
        return Contents(f"IDX, {files(len(visible))}")
    images = sum(PurePosixPath(name).suffix.casefold() in _IMAGES for name in visible)
    if images * 2 <= len(visible):
        return Contents("files")
    try:
        layout = lay_out(visible, seed=0)
    except LayoutError as error:
        sorted_into_folders = any("/" in name for name in visible)
        return Contents("images without classes", problem=str(error) if sorted_into_folders else None)
    return Contents(f"images in {len(layout.class_names):,} classes", layout)


def list_data_sets(root: Path) -> list[DataSet]:
    """Return every data/NAME on the volume, sorted by name."""
    return [_look_at(path) for path in sorted((root / "data").glob("[!.]*/")) if not path.is_symlink()]


def _look_at(folder: Path) -> DataSet:
    names: list[str] = []
    number = size = cached = 0
    for name, path in _files(folder):
        try:
            this = path.lstat().st_size
        except OSError:
            continue  # removed in the meantime
        if name.startswith(".cache/"):
            cached += this
            continue
        number, size = number + 1, size + this
        if len(names) < _MOST_NAMES:
            names.append(name)
    kind = contents(names).kind if number == len(names) else "files"
    return DataSet(name=folder.name, files=number, bytes=size, contents=kind, cache_bytes=cached)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for here, _, names in os.walk(folder):  # follows no links
        for name in names:
            path = Path(here, name)
            yield path.relative_to(folder).as_posix(), path


def exists(root: Path, name: str) -> bool:
    """Whether runs/RUN or data/NAME, or a file in it, exists. Raises ValueError for any other name."""
    path = below(root, name)
    folders.restore(root.joinpath(*path.relative_to(root).parts[:2]))
    return path.exists()

"""A folder of image files as a data set: its sub-folders are the classes.

    data/NAME/CLASS/FILE         divided by the seed: of every class about 8 in 10 to train, 1 to judge
                                 the training by as it goes, 1 to test
    data/NAME/train/CLASS/FILE   divided already: train/, test/ and, if it is there, val/; where there is
                                 no test/, val/ is what is tested

Where a file belongs depends on its name and the seed alone: one more photograph moves no other one from the
images that are tested to those that are learnt from.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import torch

from jobs import imagecache, imagefiles
from jobs.contract.config import RunConfig
from jobs.contract.volume import data_folder
from jobs.errors import BadInput
from jobs.imagecache import Decoded
from jobs.imagefiles import shown
from jobs.split import Part, Rows, Split, SplitName

_FOLDERS: Final[Mapping[str, Part]] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
#: Parts of the whole, by the seed: to train up to the first, to validate up to the second, the rest to test.
_TRAIN: Final = 0.8
_VAL: Final = 0.9
#: How many files that were skipped have a line of their own in the log; the record has them all.
_MOST_SHOWN: Final = 20


@dataclass(frozen=True)
class Place:
    """Where a file belongs."""

    part: Part
    class_name: str


@dataclass(frozen=True)
class Layout:
    """places: of every file that is in a class; skipped: why the others are not."""

    places: Mapping[str, Place]
    class_names: tuple[str, ...]
    skipped: Mapping[str, str]


def load(config: RunConfig, split: SplitName, volume: Path) -> Split:
    """One split of `data.folder`; the one to train on brings along the one to validate with.

    Raises BadInput for a folder that cannot be learnt from.
    """
    data = config.data
    assert data.folder is not None
    folder = data_folder(volume, data.folder.removeprefix("data/"))
    layout = lay_out(folder, imagefiles.list_files(folder), config.seed)
    decoded = imagecache.decoded(folder, list(layout.places), data.size)
    skipped = {shown(name): why for name, why in sorted({**layout.skipped, **decoded.skipped}.items())}
    _check_skipped(folder, skipped, len(skipped) + len(decoded.names), data.skip_limit)
    _check_classes(folder, layout, decoded.names)
    if split == "test":
        return _part("test", folder, layout, decoded, skipped)
    validation = _part("val", folder, layout, decoded)
    return _part("train", folder, layout, decoded, skipped, validation if len(validation) else None)


def lay_out(folder: Path, names: Sequence[str], seed: int) -> Layout:
    """What the names of the files say. Raises BadInput where they make no data set."""
    top = {name.partition("/")[0] for name in names if "/" in name}
    divided = _FOLDERS.keys() & top
    if "train" in divided and len(divided) > 1:
        if others := sorted(top - divided):
            raise BadInput(
                f"{folder} is divided into {_listed(divided)}, and has {_listed(others)} beside them; "
                "put these into them, or elsewhere"
            )
        tested = "test" if "test" in divided else "val"
    else:
        tested = ""
    places: dict[str, Place] = {}
    skipped: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        if len(parts) < (3 if tested else 2):
            skipped[name] = "it is in no class's folder"
        elif tested:
            part = _FOLDERS[parts[0]]
            places[name] = Place("test" if part == tested else part, parts[1])
        else:
            places[name] = Place(part_of(name, seed), parts[0])
    class_names = tuple(sorted({place.class_name for place in places.values()}))
    if len(class_names) < 2:
        there = f"only one class, {shown(class_names[0])}" if class_names else "no folders of classes"
        raise BadInput(
            f"{folder} has {there}; what is to be told apart goes into a folder for each class: "
            f"{folder.name}/CLASS/FILE"
        )
    return Layout(places, class_names, skipped)


def part_of(name: str, seed: int) -> Part:
    """Where the file of this name belongs, in a folder that is not divided already."""
    drawn = (
        int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode(errors="replace")).digest()[:8], "big") / 2**64
    )
    return "train" if drawn < _TRAIN else "val" if drawn < _VAL else "test"


def _check_skipped(folder: Path, skipped: Mapping[str, str], files: int, limit: int) -> None:
    if not skipped:
        return
    for name, why in islice(skipped.items(), _MOST_SHOWN):
        print(f"skipped {name}: {why}")
    more = len(skipped) - _MOST_SHOWN
    print(
        f"skipped {len(skipped):,} of {files:,} files" + (f", {more:,} of them not shown" if more > 0 else "")
    )
    if len(skipped) > limit:
        first = "; ".join(f"{name}: {why}" for name, why in islice(skipped.items(), _MOST_SHOWN))
        raise BadInput(
            f"{folder}: {len(skipped):,} of {files:,} files cannot be used, {limit:,} may be "
            f"(--set data.skip_limit=N): {first}" + ("; …" if more > 0 else "")
        )


def _check_classes(folder: Path, layout: Layout, names: Iterable[str]) -> None:
    """Every class must be learnt, and there must be something to test."""
    there = Counter((layout.places[name].part, layout.places[name].class_name) for name in names)
    for class_name in layout.class_names:
        count = sum(there[part, class_name] for part in ("train", "val", "test"))
        if not there["train", class_name] or count < 2:
            raise BadInput(
                f"{folder}: class {shown(class_name)} has {count} usable image{'s' if count != 1 else ''}, "
                f"{there['train', class_name]} of them to train on; a class needs some to train on and "
                "others to test: put more there, or divide it into train/ and test/ yourself"
            )
    if not any(part == "test" for part, _ in there):
        raise BadInput(
            f"{folder}: not one image to test on; put more there, or divide it into train/ and test/"
        )


def _part(
    part: Part,
    folder: Path,
    layout: Layout,
    decoded: Decoded,
    skipped: Mapping[str, str] | None = None,
    validation: Split | None = None,
) -> Split:
    rows = [row for row, name in enumerate(decoded.names) if layout.places[name].part == part]
    names = tuple(decoded.names[row] for row in rows)
    number = {name: label for label, name in enumerate(layout.class_names)}
    return Split(
        images=Rows(decoded.images, torch.tensor(rows, dtype=torch.int64)),
        labels=torch.tensor([number[layout.places[name].class_name] for name in names], dtype=torch.int64),
        class_names=layout.class_names,
        files={folder / name: decoded.proofs[name] for name in names},
        names=names,
        skipped=skipped or {},
        validation=validation,
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{shown(name)}/" for name in sorted(names))

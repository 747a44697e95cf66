"""A folder of image files as a data set: its sub-folders are the classes (see volume.layout)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

import torch

from jobrelay_runner.errors import BadInput
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume import layout as layouts
from jobrelay_runner.volume.layout import Layout, LayoutError, lay_out, nfc
from jobrelay_runner.volume.parts import Part
from jobrelay_runner.volume.paths import data_folder
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data.images import image_cache, image_files
from jobrelay_train.data.images.image_cache import Decoded
from jobrelay_train.data.images.image_files import shown
from jobrelay_train.data.split import Rows, Split, SplitName

#: How many skipped files the log lists; the record has them all.
_MOST_SHOWN: Final = 20


def load(config: RunConfig, split: SplitName, volume: Path) -> Split:
    """Load one split of `data.folder`; the training split includes the validation split.

    Raises BadInput for a folder that cannot be used for training.
    """
    data = config.data
    assert data.folder is not None
    folder = data_folder(volume, data.folder.removeprefix("data/"))
    try:
        layout = lay_out(image_files.list_files(folder), config.seed)
    except LayoutError as error:
        raise BadInput(f"{folder} {error}") from error
    decoded = image_cache.decoded(folder, list(layout.places), data.size)
    skipped = {shown(name): why for name, why in sorted({**layout.skipped, **decoded.skipped}.items())}
    _check_skipped(folder, skipped, len(skipped) + len(decoded.names), data.skip_limit)
    _check_classes(folder, layout, decoded.names)
    if split == "train":
        _print_classes(layout, decoded.names)
    if split == "test":
        return _part("test", folder, layout, decoded, skipped)
    validation = _part("val", folder, layout, decoded)
    return _part("train", folder, layout, decoded, skipped, validation if len(validation) else None)


def _print_classes(layout: Layout, names: Iterable[str]) -> None:
    names = list(names)
    print(layouts.describe(layout, names))
    for warning in layouts.warnings(layout, names):
        print(f"warning: {warning}", flush=True)


def _check_skipped(folder: Path, skipped: Mapping[str, str], files: int, limit: int) -> None:
    if not skipped:
        return
    for name, why in islice(skipped.items(), _MOST_SHOWN):
        print(f"skipped {name}: {why}")
    more = len(skipped) - _MOST_SHOWN
    of_all = f"{len(skipped):,} of {counted(files, 'file')}"
    print(f"skipped {of_all}" + (f", {more:,} of them not shown" if more > 0 else ""))
    if len(skipped) > limit:
        first = "; ".join(f"{name}: {why}" for name, why in islice(skipped.items(), _MOST_SHOWN))
        raise BadInput(
            f"{folder}: {of_all} cannot be used, and the limit is {limit:,} "
            f"(--set data.skip_limit=N): {first}" + ("; …" if more > 0 else "")
        )


def _check_classes(folder: Path, layout: Layout, names: Iterable[str]) -> None:
    """Raise BadInput unless every class has training images and there are test images."""
    there = Counter((layout.places[name].part, layout.places[name].class_name) for name in names)
    for class_name in layout.class_names:
        count = sum(there[part, class_name] for part in ("train", "val", "test"))
        if not there["train", class_name] or count < 2:
            raise BadInput(
                f"{folder}: class {shown(class_name)} has {count} usable image{'s' if count != 1 else ''}, "
                f"{there['train', class_name]} of them to train on; a class needs some to train on and "
                "others to test on: add images, or divide the folder into train/ and test/ yourself"
            )
    if not any(part == "test" for part, _ in there):
        raise BadInput(
            f"{folder}: no image to test on; add images, or divide the folder into train/ and test/"
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
        files={folder / name: decoded.digests[name] for name in names},
        names=tuple(nfc(name) for name in names),
        skipped=skipped or {},
        validation=validation,
    )

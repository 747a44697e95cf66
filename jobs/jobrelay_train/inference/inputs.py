"""The inputs of `infer`: images of the data set's test part, or files in a folder on the volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from jobrelay_runner.volume.layout import nfc
from jobrelay_runner.volume.paths import data_folder
from jobrelay_runner.volume.record import FileDigest
from jobrelay_train import compute
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data.images import image_files
from jobrelay_train.data.images.decoding import Shape
from jobrelay_train.data.images.photographs import Subject
from jobrelay_train.data.registry import describe, load
from jobrelay_train.data.split import Images, chosen
from jobrelay_train.program import Context


@dataclass(frozen=True)
class Asked:
    """The inputs to classify, in the order of the source. `labels` if the true classes are known."""

    images: Images  # uint8 (N, C, H, W), or points float32 (N, 2)
    titles: tuple[str, ...]  # each input's name in the log
    keys: tuple[dict[str, object], ...]  # each input's identification in predictions.json
    labels: Tensor | None
    source: str  # a data set, if these are its test images, or data/NAME
    source_images: int
    files: Mapping[Path, FileDigest]
    skipped: Mapping[str, str]
    names: tuple[str, ...] | None  # of the files, if each image has its own
    nothing: Mapping[str, Tensor] = field(default_factory=dict)  # files with nothing on them


def what_is_asked(context: Context, shape: tuple[int, ...], dataset: str) -> Asked:
    """Read up to `infer.samples` inputs from `infer.source`, in the form of a model of this data set.

    Raises BadInput.
    """
    if context.config.infer.folder:
        assert len(shape) == 3  # RunConfig and train ensure it
        return _files(context, shape, "garment" if dataset.startswith("fashion-mnist") else "digit")
    return _test_images(context)


def _test_images(context: Context) -> Asked:
    config = context.config
    data = load(config, "test", context.folder.root)
    drawn = _drawn(context, len(data))[: _wanted(context)].sort().values
    indices = drawn.tolist()
    files = data.files
    if data.names is None:
        titles = tuple(_title(config, data.images, index) for index in indices)
        keys: tuple[dict[str, object], ...] = tuple({"index": index} for index in indices)
    else:  # each image has its own file, and no other file is read
        titles = tuple(data.names[index] for index in indices)
        keys = tuple({"image": name} for name in titles)
        each = list(files.items())
        files = dict(each[index] for index in indices)
    return Asked(
        images=chosen(data.images, drawn),
        titles=titles,
        keys=keys,
        labels=data.labels[drawn],
        source=describe(config.data),
        source_images=len(data),
        files=files,
        skipped=data.skipped,
        names=titles if data.names else None,
    )


def _title(config: RunConfig, images: Images, index: int) -> str:
    if config.data.is_own:
        return f"{'image' if len(images.shape) == 4 else 'item'} {index}"
    points = len(images.shape) == 2
    return f"point {index} {_point(images[index : index + 1][0])}" if points else f"image {index}"


def _point(values: Tensor) -> str:
    return f"({', '.join(f'{value:.2f}' for value in values.tolist())})"


def _files(context: Context, shape: Shape, subject: Subject) -> Asked:
    source = str(context.config.infer.folder)
    folder = data_folder(context.folder.root, source.removeprefix("data/"))
    names = image_files.list_files(folder)
    order = (names[index] for index in _drawn(context, len(names)).tolist())
    found = image_files.read_files(folder, order, _wanted(context) or len(names), shape, subject)
    ordered = sorted(range(len(found.names)), key=found.names.__getitem__)
    taken = tuple(found.names[index] for index in ordered)
    shown = tuple(nfc(name) for name in taken)
    return Asked(
        images=found.images[torch.tensor(ordered, dtype=torch.int64)],
        titles=shown,
        keys=tuple({"image": name} for name in shown),
        labels=None,
        source=source,
        source_images=len(names),
        files={folder / name: FileDigest.of(folder / name) for name in (*taken, *sorted(found.nothing))},
        skipped={image_files.shown(name): reason for name, reason in sorted(found.skipped.items())},
        names=shown,
        nothing={nfc(name): picture for name, picture in sorted(found.nothing.items())},
    )


def _drawn(context: Context, count: int) -> Tensor:
    """Shuffle the numbers 0 … count - 1 by the run's seed, int64 (count,)."""
    return torch.randperm(count, generator=compute.generator(context.config.seed, "infer"))


def _wanted(context: Context) -> int | None:
    samples = context.config.infer.samples
    return None if samples == "all" else samples

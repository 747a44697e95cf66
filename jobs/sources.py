"""What `infer` is asked about: images of the data set's test part, or files in a folder of the volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from jobs import compute, imagefiles
from jobs.assignment import Assignment
from jobs.contract.layout import nfc
from jobs.contract.record import FileProof
from jobs.contract.volume import data_folder
from jobs.data import describe, load
from jobs.decoding import Shape
from jobs.photographs import Subject
from jobs.split import Images, chosen


@dataclass(frozen=True)
class Asked:
    """What is to be classified, in the order of the source. `labels` if it is known what is right."""

    images: Images  # uint8 (N, C, H, W), or points float32 (N, 2)
    titles: tuple[str, ...]  # how the log calls each
    keys: tuple[dict[str, object], ...]  # how predictions.json does
    labels: Tensor | None
    source: str  # a data set, of which these are test images, or data/NAME
    source_images: int
    files: Mapping[Path, FileProof]
    skipped: Mapping[str, str]
    names: tuple[str, ...] | None  # of the files, if each image has one of its own
    nothing: Mapping[str, Tensor] = field(default_factory=dict)  # files on which nothing is found


def what_is_asked(assignment: Assignment, shape: Shape | tuple[int], dataset: str) -> Asked:
    """What is in `infer.source`, as much as `infer.samples`, as a model of this data set takes it.

    Raises BadInput.
    """
    if assignment.config.infer.folder:
        assert len(shape) == 3  # RunConfig sees to it
        return _files(assignment, shape, "garment" if dataset.startswith("fashion-mnist") else "digit")
    return _test_images(assignment)


def _test_images(assignment: Assignment) -> Asked:
    config = assignment.config
    data = load(config, "test", assignment.folder.root)
    drawn = _drawn(assignment, len(data))[: _wanted(assignment)].sort().values
    indices = drawn.tolist()
    files = data.files
    if data.names is None:
        points = len(data.images.shape) == 2
        titles = tuple(
            f"point {index} {_point(data.images[index])}" if points else f"image {index}" for index in indices
        )
        keys: tuple[dict[str, object], ...] = tuple({"index": index} for index in indices)
    else:  # each image has a file of its own, and no other one is looked at
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


def _point(values: Tensor) -> str:
    return f"({', '.join(f'{value:.2f}' for value in values.tolist())})"


def _files(assignment: Assignment, shape: Shape, subject: Subject) -> Asked:
    source = str(assignment.config.infer.folder)
    folder = data_folder(assignment.folder.root, source.removeprefix("data/"))
    names = imagefiles.list_files(folder)
    order = (names[index] for index in _drawn(assignment, len(names)).tolist())
    found = imagefiles.read_files(folder, order, _wanted(assignment) or len(names), shape, subject)
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
        files={folder / name: FileProof.of(folder / name) for name in (*taken, *sorted(found.nothing))},
        skipped={imagefiles.shown(name): reason for name, reason in sorted(found.skipped.items())},
        names=shown,
        nothing={nfc(name): picture for name, picture in sorted(found.nothing.items())},
    )


def _drawn(assignment: Assignment, count: int) -> Tensor:
    """The numbers 0 … count - 1 in the order in which the run's seed draws them, int64 (count,)."""
    return torch.randperm(count, generator=compute.generator(assignment.config.seed, "infer"))


def _wanted(assignment: Assignment) -> int | None:
    samples = assignment.config.infer.samples
    return None if samples == "all" else samples

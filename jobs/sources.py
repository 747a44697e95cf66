"""What `infer` is asked about: images of the data set's test part, or files in a folder of the volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from jobs import compute, imagefiles
from jobs.assignment import Assignment
from jobs.contract.volume import data_folder
from jobs.data import Split, load


@dataclass(frozen=True)
class Asked:
    """What is to be classified, in the order of the source. `labels` if it is known what is right."""

    images: Tensor  # uint8 (N, C, H, W), or points float32 (N, 2)
    titles: tuple[str, ...]  # how the log calls each
    keys: tuple[dict[str, object], ...]  # how predictions.json does
    labels: Tensor | None
    source: str  # a data set, of which these are test images, or data/NAME
    source_images: int
    files: tuple[Path, ...]
    skipped: dict[str, str]


def what_is_asked(assignment: Assignment) -> Asked:
    """The images of `infer.source`, as many as `infer.samples`. Raises BadInput."""
    return _files(assignment) if assignment.config.infer.folder else _test_images(assignment)


def _test_images(assignment: Assignment) -> Asked:
    config = assignment.config
    data = load(config.data, "test", assignment.folder.root, config.seed)
    drawn = _drawn(assignment, len(data))[: _wanted(assignment)].sort().values
    indices = drawn.tolist()
    return Asked(
        images=data.images[drawn],
        titles=tuple(_title(data, index) for index in indices),
        keys=tuple({"index": index} for index in indices),
        labels=data.labels[drawn],
        source=config.data.name,
        source_images=len(data),
        files=data.files,
        skipped={},
    )


def _title(data: Split, index: int) -> str:
    if data.images.dim() > 2:
        return f"image {index}"
    return f"point {index} ({', '.join(f'{value:.2f}' for value in data.images[index].tolist())})"


def _files(assignment: Assignment) -> Asked:
    source = str(assignment.config.infer.folder)
    folder = data_folder(assignment.folder.root, source.removeprefix("data/"))
    names = imagefiles.list_files(folder)
    order = (names[index] for index in _drawn(assignment, len(names)).tolist())
    found = imagefiles.read_files(folder, order, _wanted(assignment) or len(names))
    ordered = sorted(range(len(found.names)), key=found.names.__getitem__)
    taken = tuple(found.names[index] for index in ordered)
    return Asked(
        images=found.images[torch.tensor(ordered)],
        titles=taken,
        keys=tuple({"image": name} for name in taken),
        labels=None,
        source=source,
        source_images=len(names),
        files=tuple(folder / name for name in taken),
        skipped={imagefiles.shown(name): reason for name, reason in sorted(found.skipped.items())},
    )


def _drawn(assignment: Assignment, count: int) -> Tensor:
    """The numbers 0 … count - 1 in the order in which the run's seed draws them, int64 (count,)."""
    return torch.randperm(count, generator=compute.generator(assignment.config.seed, "infer"))


def _wanted(assignment: Assignment) -> int | None:
    samples = assignment.config.infer.samples
    return None if samples == "all" else samples

"""A data set that a function of the user's own returns: a map-style torch Dataset of (tensor, label).

A small one is read once into memory, like the built-in ones. A larger one, or one that varies its items at
random, is read item by item (data.items).

    images uint8 (C, H, W)     pixels, normalised and drawn like those of the built-in data sets
    floating point numbers     float32, used as they are
    other whole numbers        int64, used as they are: the indices of words, for example
"""

from __future__ import annotations

import hashlib
import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from jobrelay_runner.errors import BadInput
from jobrelay_runner.text.counting import counted
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data.items import Items, own_random_numbers
from jobrelay_train.data.split import Images, Split, SplitName
from jobrelay_train.own.functions import OwnFunction, find

#: A data set whose tensors have at most this many bytes is read into memory.
IN_MEMORY_BYTES: Final = 2**30
#: Items that are read twice, to see whether the data set varies them.
_READ_TWICE: Final = 16
#: Attributes in which torchvision's data sets and many others have their labels.
_LABELS: Final = ("targets", "labels")


def load(config: RunConfig, split: SplitName, volume: Path) -> Split:
    """Load one split; that of training comes with the one for validation, if there is one.

    A few items of the test split are checked before the training. Raises BadInput.
    """
    part = _Part.of(config, split, volume)
    assert part is not None
    loaded = part.load()
    if split == "test":
        return loaded
    test = _Part.of(config, "test", volume)
    assert test is not None
    test.check_like(loaded)
    validation = _Part.of(config, "val", volume)
    if validation is None:
        return loaded
    validation.check_like(loaded)
    held_out = validation.load(loaded.class_names)
    return Split(
        loaded.images, loaded.labels, loaded.class_names, {}, validation=held_out, content=loaded.content
    )


@dataclass(frozen=True)
class _Part:
    """What the function returned for one split."""

    function: OwnFunction
    split: str
    dataset: Any
    count: int
    seed: int

    @classmethod
    def of(cls, config: RunConfig, split: str, volume: Path) -> _Part | None:
        """Call the function; None if it has no images for validation. Raises BadInput."""
        function = find("data.name", config.data.name)
        arguments: tuple[Any, ...] = (split,)
        if config.data.folder:
            arguments = (split, volume / config.data.folder)
        function.require(*map(repr, arguments))
        try:
            dataset = function(*arguments)
        except BadInput as error:
            if split == "val" and isinstance(error.__cause__, KeyError) and error.__cause__.args == ("val",):
                return None
            raise
        if dataset is None and split == "val":
            return None
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise function.problem(
                f"for {split!r} it returned {type(dataset).__name__}, and a Dataset with __getitem__ and "
                "__len__ is expected"
            )
        count = function.guarded(f"len of {split!r}", len, dataset)
        if not count:
            raise function.problem(f"{split!r} is empty")
        return cls(function, split, dataset, count, config.seed)

    def load(self, class_names: tuple[str, ...] | None = None) -> Split:
        """Read everything, or only the labels if that is too much. Raises BadInput."""
        first, _ = self.item(0)
        item_bytes = first.element_size() * first.numel()
        varies = self._varies()
        images: Images
        if item_bytes * self.count <= IN_MEMORY_BYTES and not varies:
            images, labels = self._stacked(first)
            content = _digest(images, labels)
        else:
            labels = self._labels()
            read = partial(self._read, tuple(first.shape), first.dtype)
            rows = torch.arange(self.count)
            images = Items(read, tuple(first.shape), first.dtype, rows, (self.seed, "item", self.split))
            content = _digest(torch.empty(0), labels)
            why = "varies its items" if varies else f"has {item_bytes * self.count / 2**30:.1f} GiB"
            print(f"{self.split!r} of {self.function.name} {why}: it is read batch by batch", flush=True)
        names = class_names or self._class_names(labels)
        self._require_in_range(labels, names)
        return Split(images, labels, names, {}, content=content)

    def item(self, index: int) -> tuple[Tensor, int]:
        """Read one item, in the type in which it is used. Raises BadInput."""
        item = self.function.guarded(f"item {index} of {self.split!r}", operator.getitem, self.dataset, index)
        what = f"item {index} of {self.split!r} is"
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise self.function.problem(f"{what} a {type(item).__name__}, and (tensor, label) is expected")
        values, label = item
        if not isinstance(values, Tensor):
            kind = type(values).__name__
            hint = "" if "torchvision" not in type(self.dataset).__module__ else ": transform=ToTensor()"
            raise self.function.problem(f"{what} ({kind}, …), and (tensor, label) is expected{hint}")
        if values.is_complex() or values.is_sparse:
            raise self.function.problem(
                f"{what} a tensor of {values.dtype}, {values.layout}, which is not used"
            )
        try:
            number = operator.index(label)
        except TypeError:
            kind = type(label).__name__
            raise self.function.problem(
                f"{what} (tensor, {kind}), and (tensor, label) with a whole number is expected"
            ) from None
        return _as_used(values), number

    def check_like(self, other: Split) -> None:
        """Check a few items against those of the training: shape, type, label. Raises BadInput."""
        if (known := self._known_labels()) is not None:
            self._require_in_range(known, other.class_names)
        for index in sorted({0, self.count // 2, self.count - 1}):
            values, label = self.item(index)
            self._require_like(index, values, tuple(other.images.shape[1:]), other.images.dtype)
            self._require_in_range(torch.tensor([label]), other.class_names)

    def _require_like(self, index: int, values: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        if tuple(values.shape) != shape or values.dtype != dtype:
            raise self.function.problem(
                f"item {index} of {self.split!r} is a tensor of {tuple(values.shape)}, {values.dtype}, and "
                f"others are of {shape}, {dtype}; all must be the same"
            )

    def _read(self, shape: tuple[int, ...], dtype: torch.dtype, index: int) -> Tensor:
        values, _ = self.item(index)
        self._require_like(index, values, shape, dtype)
        return values

    def _varies(self) -> bool:
        """Whether the same item is another one with other random numbers."""
        some = sorted({self.count * number // _READ_TWICE for number in range(_READ_TWICE)})
        with own_random_numbers() as reseed:
            for index in some:
                reads = []
                for time_read in range(2):
                    reseed("varies", time_read, index)
                    reads.append(self.item(index)[0])
                if not torch.equal(torch.nan_to_num(reads[0]), torch.nan_to_num(reads[1])):
                    return True
        return False

    def _stacked(self, first: Tensor) -> tuple[Tensor, Tensor]:
        images = torch.empty((self.count, *first.shape), dtype=first.dtype)
        labels = torch.empty(self.count, dtype=torch.int64)
        started = time.perf_counter()
        for index in range(self.count):
            values, labels[index] = self.item(index)
            self._require_like(index, values, tuple(first.shape), first.dtype)
            images[index] = values
        if (seconds := time.perf_counter() - started) > 1:
            print(f"read {counted(self.count, 'item')} of {self.split!r} in {seconds:.1f} s", flush=True)
        return images, labels

    def _known_labels(self) -> Tensor | None:
        """Return the labels from the data set's attribute, if it has one that fits."""
        for name in _LABELS:
            known = getattr(self.dataset, name, None)
            if isinstance(known, Sequence | Tensor) and len(known) == self.count:
                try:
                    return torch.tensor([operator.index(label) for label in known], dtype=torch.int64)
                except TypeError:
                    continue
        return None

    def _labels(self) -> Tensor:
        """Return the labels from the data set's attribute, or else by reading every item once."""
        if (known := self._known_labels()) is not None:
            return known
        started = time.perf_counter()
        labels = torch.tensor([self.item(index)[1] for index in range(self.count)], dtype=torch.int64)
        print(
            f"read {counted(self.count, 'item')} of {self.split!r} for their labels in "
            f"{time.perf_counter() - started:.1f} s; an attribute `targets` of the data set would save that",
            flush=True,
        )
        return labels

    def _class_names(self, labels: Tensor) -> tuple[str, ...]:
        given = getattr(self.dataset, "classes", None)
        if isinstance(given, Sequence) and not isinstance(given, str) and given:
            return tuple(map(str, given))
        return tuple(map(str, range(int(labels.max()) + 1)))

    def _require_in_range(self, labels: Tensor, names: tuple[str, ...]) -> None:
        wrong = ((labels < 0) | (labels >= len(names))).nonzero().flatten()
        if len(wrong):
            raise self.function.problem(
                f"{self.split!r} has the label {int(labels[wrong[0]])}, and there are "
                f"{counted(len(names), 'class')}, 0 to {len(names) - 1}"
            )


def require_known_classes(config: RunConfig, labels: Tensor, class_names: tuple[str, ...]) -> None:
    """Check the labels of the test split against the classes of the trained model. Raises BadInput."""
    if config.data.is_own and int(labels.max()) >= len(class_names):
        raise find("data.name", config.data.name).problem(
            f"'test' has the label {int(labels.max())}, and the model was trained with "
            f"{counted(len(class_names), 'class')}, 0 to {len(class_names) - 1}"
        )


def _as_used(values: Tensor) -> Tensor:
    values = values.detach()
    if values.dtype == torch.uint8 and values.dim() == 3:
        return values
    return values.to(torch.float32 if values.is_floating_point() else torch.int64)


def _digest(images: Tensor, labels: Tensor) -> str:
    """Return the SHA-256 (hex) of what was read, by which a resumed training knows it again."""
    digest = hashlib.sha256(str((tuple(images.shape), images.dtype)).encode())
    for tensor in (images, labels):
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

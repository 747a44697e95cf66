"""Data sets as tensors in memory: pixels as uint8, a quarter of what float32 would take.

fashion-mnist-mini   inside this package (assets/), needs nothing
mnist                data/mnist on the volume, downloaded by the first who needs it
fashion-mnist        data/fashion-mnist on the volume, likewise
blobs                no images: points in the plane, made by the seed (jobs.blobs), needs nothing
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn

from torch import Tensor

from jobs import blobs
from jobs.contract.config import DataConfig
from jobs.contract.volume import data_folder
from jobs.download import download
from jobs.errors import BadInput
from jobs.idx import read_images, read_labels

SplitName = Literal["train", "test"]

_ASSETS: Final = Path(__file__).parent / "assets"
_PREFIX: Final = {"train": "train", "test": "t10k"}
_CLASSES: Final = 10
_DIGITS: Final = tuple("0123456789")
_CLOTHES: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class Description:
    """What is known of a data set without reading it."""

    class_names: tuple[str, ...]
    mirrored_is_the_same: bool  # a shirt seen in a mirror is a shirt; a 2 is not a 2
    reach: int  # by how many pixels an image may be moved and be of the same class; 0: it does not help
    torchvision_name: str = ""  # its class in torchvision.datasets, and its folder in their layout


DESCRIPTIONS: Final = {
    "fashion-mnist-mini": Description(_CLOTHES, True, 0, "FashionMNIST"),
    "fashion-mnist": Description(_CLOTHES, True, 0, "FashionMNIST"),
    "mnist": Description(_DIGITS, False, 1, "MNIST"),
    "blobs": Description(blobs.CLASS_NAMES, False, 0),
}


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, 1, 28, 28) and labels int64 (N,) in 0 … 9; `files` are what they were read from.

    Of `blobs`, the images are float32 (N, 2), and the labels 0 or 1.
    """

    images: Tensor
    labels: Tensor
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.labels)


def load(config: DataConfig, split: SplitName, volume: Path, seed: int = 0) -> Split:
    """One split of the configured data set, downloaded to the volume if it is not there.

    `files` is empty for what ships with this package, or is made here, by the run's seed. Raises
    BadInput if a file is damaged, or if there is no data and no way to get it.
    """
    if config.name == "blobs":
        return Split(*blobs.make(seed, split), files=())
    if config.name == "fashion-mnist-mini":
        images, labels = _find_split(_ASSETS / config.name, config, split) or _missing(config, _ASSETS)
        return _read_split(images, labels, files=())
    folder = data_folder(volume, config.name)
    if not _is_complete(folder, config):
        _refuse_half_a_data_set(folder, config)
        download(
            torchvision_name=DESCRIPTIONS[config.name].torchvision_name,
            folder=folder,
            mirror=config.mirror,
            is_there=lambda: _is_complete(folder, config),
            help_text=_ways_out(config),
        )
    images, labels = _find_split(folder, config, split) or _missing(config, folder)
    return _read_split(images, labels, files=(images, labels))


def _read_split(images_path: Path, labels_path: Path, files: tuple[Path, ...]) -> Split:
    images, labels = read_images(images_path), read_labels(labels_path)
    if tuple(images.shape[1:]) != (1, 28, 28):
        raise BadInput(f"{images_path}: images of {images.shape[2]} x {images.shape[3]}, 28 x 28 is expected")
    if len(images) != len(labels):
        raise BadInput(f"{images_path} has {len(images)} images, but {labels_path} has {len(labels)} labels")
    if int(labels.max()) >= _CLASSES:
        raise BadInput(f"{labels_path}: label {int(labels.max())}, but there are {_CLASSES} classes")
    return Split(images, labels, files)


def _is_complete(folder: Path, config: DataConfig) -> bool:
    return all(_find_split(folder, config, split) for split in _PREFIX)


def _find_split(folder: Path, config: DataConfig, split: str) -> tuple[Path, Path] | None:
    """Image and label file of a split, in any of the accepted places; None if one is not there."""
    images = _find(folder, config, f"{_PREFIX[split]}-images-idx3-ubyte")
    labels = _find(folder, config, f"{_PREFIX[split]}-labels-idx1-ubyte")
    return (images, labels) if images and labels else None


def _find(folder: Path, config: DataConfig, name: str) -> Path | None:
    return next((path for path in _places(folder, config, name) if path.is_file()), None)


def _places(folder: Path, config: DataConfig, name: str) -> Iterator[Path]:
    for place in (folder, folder / DESCRIPTIONS[config.name].torchvision_name / "raw"):
        yield place / name
        yield place / f"{name}.gz"


def _refuse_half_a_data_set(folder: Path, config: DataConfig) -> None:
    """What a person put there is neither overwritten nor mixed with a download."""
    names = [
        f"{prefix}-{kind}"
        for prefix in _PREFIX.values()
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    missing = [name for name in names if _find(folder, config, name) is None]
    if missing and folder.exists() and any(folder.iterdir()):
        raise BadInput(
            f"{folder} is there but lacks {', '.join(missing)}; add what is missing (plain or .gz), "
            f"or remove the folder so that the data set is downloaded"
        )


def _missing(config: DataConfig, folder: Path) -> NoReturn:
    raise BadInput(f"{folder} does not hold {config.name} any more")


def _ways_out(config: DataConfig) -> str:
    return (
        "three ways out:\n"
        "  --set data.name=fashion-mnist-mini            the images in the box\n"
        f"  python launcher put DIR {config.name:<22}the four IDX files in DIR onto the volume\n"
        "  a network, or --set data.mirror=URL           a copy that can be reached"
    )

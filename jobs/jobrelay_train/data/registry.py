"""Data sets as tensors: pixels as uint8, a quarter of the memory of float32.

fashion-mnist-mini   inside this package (assets/), needs nothing
mnist                data/mnist on the volume, downloaded by the first stage that needs it
fashion-mnist        data/fashion-mnist on the volume, likewise
imagefolder          image files on the volume, in one folder per class: see data.images.image_folder
blobs                no images: points in the plane, generated from the seed (data.blobs), needs nothing
package.module:f     whatever that function of the user's own returns (data.own)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from jobrelay_runner.errors import BadInput
from jobrelay_runner.volume.layout import shown
from jobrelay_runner.volume.paths import data_folder
from jobrelay_runner.volume.record import FileDigest
from jobrelay_train.config.inputs import DataConfig
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data import blobs, own
from jobrelay_train.data.download import download
from jobrelay_train.data.idx import read_images, read_labels
from jobrelay_train.data.images import image_folder
from jobrelay_train.data.split import Split, SplitName

_ASSETS: Final = Path(__file__).parent / "assets"
_PREFIX: Final[dict[str, str]] = {"train": "train", "test": "t10k"}
_CLASSES: Final = 10
#: Most file names that a message lists.
_MOST_SHOWN: Final = 10
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
class Variation:
    """The variations that keep an image in its class, as far as that is known."""

    mirrored: bool  # a mirrored shirt is still a shirt, a mirrored 2 is not a 2; unknown for other folders
    reach: int  # by how many pixels to move an image; 0 if that does not help


_VARIATIONS: Final = {
    "fashion-mnist-mini": Variation(mirrored=True, reach=0),
    "fashion-mnist": Variation(mirrored=True, reach=0),
    "mnist": Variation(mirrored=False, reach=1),
    "imagefolder": Variation(mirrored=False, reach=0),
    "blobs": Variation(mirrored=False, reach=0),
}


def variation(name: str) -> Variation:
    """Return what is known about the variations of a data set; nothing about the user's own."""
    return _VARIATIONS.get(name, Variation(mirrored=False, reach=0))


@dataclass(frozen=True)
class _IdxSet:
    """What is known about a data set of IDX files without reading it."""

    class_names: tuple[str, ...]
    torchvision_name: str  # its class in torchvision.datasets, and its folder in their layout


_IDX_SETS: Final = {
    "fashion-mnist-mini": _IdxSet(_CLOTHES, "FashionMNIST"),
    "fashion-mnist": _IdxSet(_CLOTHES, "FashionMNIST"),
    "mnist": _IdxSet(_DIGITS, "MNIST"),
}


def load(config: RunConfig, split: SplitName, volume: Path) -> Split:
    """Load one split of the configured data set; download it to the volume if it is missing.

    Raises BadInput if a file is damaged, or if the data is missing and cannot be downloaded.
    """
    if config.data.is_own:
        return own.load(config, split, volume)
    if config.data.name == "imagefolder":
        return image_folder.load(config, split, volume)
    if config.data.name == "blobs":
        return Split(*blobs.make(config.seed, split), class_names=blobs.CLASS_NAMES, files={})
    return _load_idx(config.data, split, volume)


def describe(config: DataConfig) -> str:
    """Return the name of the configured data set for people: its folder if it has one."""
    return config.name if config.is_own else config.folder or config.name


def _load_idx(config: DataConfig, split: SplitName, volume: Path) -> Split:
    known = _IDX_SETS[config.name]
    if config.name == "fashion-mnist-mini":
        images, labels = _find_split(_ASSETS / config.name, config, split) or _missing(config, _ASSETS)
        return _read_split(images, labels, known.class_names, proven=False)
    folder = data_folder(volume, config.name)
    if not _is_complete(folder, config):
        _refuse_half_a_data_set(folder, config)
        download(
            torchvision_name=known.torchvision_name,
            folder=folder,
            mirror=config.mirror,
            is_there=lambda: _is_complete(folder, config),
            help_text=_ways_out(config),
        )
    images, labels = _find_split(folder, config, split) or _missing(config, folder)
    return _read_split(images, labels, known.class_names, proven=True)


def _read_split(images_path: Path, labels_path: Path, class_names: tuple[str, ...], proven: bool) -> Split:
    images, labels = read_images(images_path), read_labels(labels_path)
    if tuple(images.shape[1:]) != (1, 28, 28):
        raise BadInput(f"{images_path}: images of {images.shape[2]} x {images.shape[3]}, 28 x 28 is expected")
    if len(images) != len(labels):
        raise BadInput(f"{images_path} has {len(images)} images, but {labels_path} has {len(labels)} labels")
    if int(labels.max()) >= _CLASSES:
        raise BadInput(f"{labels_path}: label {int(labels.max())}, but there are {_CLASSES} classes")
    files = {path: FileDigest.of(path) for path in (images_path, labels_path)} if proven else {}
    return Split(images, labels, class_names, files)


def _is_complete(folder: Path, config: DataConfig) -> bool:
    return all(_find_split(folder, config, split) for split in _PREFIX)


def _find_split(folder: Path, config: DataConfig, split: str) -> tuple[Path, Path] | None:
    """Find a split's image and label file in the accepted places; None if one is missing."""
    images = _find(folder, config, f"{_PREFIX[split]}-images-idx3-ubyte")
    labels = _find(folder, config, f"{_PREFIX[split]}-labels-idx1-ubyte")
    return (images, labels) if images and labels else None


def _find(folder: Path, config: DataConfig, name: str) -> Path | None:
    return next((path for path in _places(folder, config, name) if path.is_file()), None)


def _places(folder: Path, config: DataConfig, name: str) -> Iterator[Path]:
    dotted = name.replace("-idx", ".idx")  # as many unpackers write it
    for place in (folder, folder / _IDX_SETS[config.name].torchvision_name / "raw"):
        for spelled in (name, dotted, dotted.replace("-ubyte", ".ubyte")):
            yield place / spelled
            yield place / f"{spelled}.gz"
            yield place / spelled / spelled  # unpacked into a folder of the same name


def _refuse_half_a_data_set(folder: Path, config: DataConfig) -> None:
    """Raise BadInput for an incomplete data set, which is neither overwritten nor mixed with a download."""
    # Check the folder before the files: another Pod's download, which is atomic, may finish in between.
    if not folder.exists() or not any(folder.iterdir()):
        return
    names = [
        f"{prefix}-{kind}"
        for prefix in _PREFIX.values()
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    missing = [name for name in names if _find(folder, config, name) is None]
    if missing:
        there = sorted(shown(path.name) for path in folder.iterdir())[:_MOST_SHOWN]
        raise BadInput(
            f"{folder} is there but lacks {', '.join(missing)} (it holds {', '.join(there)}); add "
            "what is missing, plain or .gz, or remove the folder so that the data set is downloaded"
        )


def _missing(config: DataConfig, folder: Path) -> NoReturn:
    raise BadInput(f"{folder} no longer holds {config.name}")


def _ways_out(config: DataConfig) -> str:
    return (
        "three ways out:\n"
        "  --set data.name=fashion-mnist-mini            the images in the box\n"
        f"  put a folder as data/{config.name:<25}the four IDX files of your own\n"
        "  a network, or --set data.mirror=URL           a copy that can be reached"
    )

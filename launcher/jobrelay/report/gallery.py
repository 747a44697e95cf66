"""The inferred images worth a look; the model's confident mistakes come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from jobrelay.report.files import NothingFound, Prediction, data_uri
from jobrelay_runner.volume.paths import BOUNDARY

_MOST: Final = {"mistakes": 24, "unsure": 12, "sure": 12, "nothing": 24}
#: A picture that `infer` draws has about 5 kB.
_MOST_BYTES: Final = 64 * 1024
#: The picture of all points has about 120 kB.
_MOST_BOUNDARY_BYTES: Final = 512 * 1024


@dataclass(frozen=True)
class Picture:
    address: str  # data:…
    title: str
    predicted: str
    probability: float | None  # None: nothing was found on it
    true: str | None = None
    correct: bool | None = None


@dataclass(frozen=True)
class Group:
    title: str
    pictures: tuple[Picture, ...]


def boundary(folder: Path) -> str | None:
    """The decision boundary of a model of points, as a data: URI; None if there is none."""
    return data_uri(folder / "results" / BOUNDARY, "png", _MOST_BOUNDARY_BYTES, folder)


def gallery(
    folder: Path, predictions: Sequence[Prediction], empty: Sequence[NothingFound] = ()
) -> tuple[Group, ...]:
    """Pictures in a run's folder, in non-empty groups. empty: images on which nothing was found."""
    own = [each for each in predictions if _name(each.file) != BOUNDARY]
    mistakes = [each for each in own if each.correct is False]
    others = [each for each in own if each.correct is not False]
    mistakes.sort(key=lambda each: -each.probability)
    others.sort(key=lambda each: each.probability)
    unsure, sure = others[: _MOST["unsure"]], others[_MOST["unsure"] :][::-1]
    known = any(each.correct is not None for each in own)
    titles = {
        "mistakes": "Mistakes, the most confident first",
        "unsure": "Right, the least sure first" if known else "The least sure first",
        "sure": "Right, and sure of it" if known else "The surest",
    }
    groups = [
        Group(titles[name], _pictures(folder, chosen[: _MOST[name]]))
        for name, chosen in (("mistakes", mistakes), ("unsure", unsure), ("sure", sure))
    ]
    groups.append(Group("Nothing found", _empty(folder, empty[: _MOST["nothing"]])))
    return tuple(group for group in groups if group.pictures)


def _pictures(folder: Path, predictions: Sequence[Prediction]) -> tuple[Picture, ...]:
    found = []
    for each in predictions:
        if address := _address(folder, each.file):
            title = each.image if each.image is not None else f"image {each.index}"
            found.append(
                Picture(address, title, each.predicted_name, each.probability, each.true_name, each.correct)
            )
    return tuple(found)


def _empty(folder: Path, lines: Sequence[NothingFound]) -> tuple[Picture, ...]:
    found = ((_address(folder, each.picture), each.image) for each in lines)
    return tuple(Picture(address, title, "nothing found", None) for address, title in found if address)


def _address(folder: Path, picture: str) -> str | None:
    return data_uri(folder / "results" / _name(picture), "png", _MOST_BYTES, folder)


def _name(picture: str) -> str:
    """The bare file name of a picture: a path that others wrote must not lead out of the folder."""
    return PurePosixPath(picture).name

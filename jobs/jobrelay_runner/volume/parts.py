"""Folders that divide a data set: the names people give to the training, validation and test parts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

#: What an image is used for. Images of `val` judge a training while it runs; most data sets have none.
Part = Literal["train", "val", "test"]
#: `unlabelled`: pictures to classify, without class folders.
Role = Literal["train", "val", "test", "unlabelled"]

_WORDS: Final[Mapping[Role, tuple[str, ...]]] = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validate", "validation", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing", "holdout"),
    "unlabelled": ("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled"),
}
#: Words that say nothing about the part: `seg_train`, `train_set`, `Training Data`, `trainset`.
_FILLERS: Final = ("set", "data", "dataset", "split", "folder", "seg", "image", "images", "img", "imgs")
_ROLES: Final[Mapping[str, Role]] = {
    f"{word}{filler}": role for role, words in _WORDS.items() for word in words for filler in ("", *_FILLERS)
}


class Named(NamedTuple):
    """What a folder's name says: its role, and the other words in it, which its siblings share."""

    role: Role
    stem: tuple[str, ...]


def named(folder: str) -> Named | None:
    """Return what a folder's name says about its role; None if it is not named for one.

    The word for the role comes first or last: `asl_train`, `train2017`, `Training Set`.
    """
    text = unicodedata.normalize("NFKC", folder).casefold()
    words = [word for word in re.findall(r"[^\W\d_]+|\d+", text) if word not in _FILLERS]
    for place in (0, -1):
        if words and (role := _ROLES.get(words[place])):
            rest = words[1:] if place == 0 else words[:-1]
            return Named(role, tuple(rest))
    return None


def division(folders: Iterable[str]) -> dict[str, Role] | None:
    """Return the roles of the folders that divide a data set, by name; None if they do not divide it.

    There must be one to train on and one to validate with or to test on, and the other words in their names
    must be the same: `asl_train` and `asl_test`, but not the classes `train station` and `test tube`.
    """
    found = {folder: what for folder in folders if (what := named(folder))}
    roles = {what.role for what in found.values()}
    if (
        len({what.stem for what in found.values()}) != 1
        or "train" not in roles
        or not roles & {"val", "test"}
    ):
        return None
    return {folder: what.role for folder, what in found.items()}

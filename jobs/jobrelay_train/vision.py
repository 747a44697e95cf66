"""The only import of torchvision."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from jobrelay_train.torchvision_operators import define_missing_operators


@cache
def torchvision() -> ModuleType:
    """The package torchvision, also where nothing was done to make its import work (`make install`)."""
    define_missing_operators()
    import torchvision as package

    return package  # type: ignore[no-any-return]


def datasets() -> ModuleType:
    """torchvision.datasets."""
    package: ModuleType = torchvision().datasets
    return package


def models() -> ModuleType:
    """torchvision.models."""
    package: ModuleType = torchvision().models
    return package

"""The only import of torchvision."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from jobrelay_train.torchvision_operators import define_missing_operators


@cache
def torchvision() -> ModuleType:
    """Import torchvision, even if `make install` has not prepared the environment for it."""
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

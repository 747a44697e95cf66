"""The only import of torchvision.

torchvision's wheel is compiled for CUDA. Beside a CPU-only torch its compiled part does not load,
its operators are never defined, and `import torchvision` ends in `operator torchvision::nms does
not exist` when it describes them. With their schemas defined first the import works, and with it
all that is plain Python: data sets, transforms, models. (The operators themselves stay unusable.)
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from functools import cache
from types import ModuleType
from typing import Final

import torch

#: What torchvision 0.28 describes in _meta_registrations.py, as its C++ part would define it.
_SCHEMAS: Final = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@cache
def torchvision() -> ModuleType:
    """The package torchvision, imported in the way that works here."""
    _define_missing_operators()
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


@cache
def _define_missing_operators() -> torch.library.Library | None:
    """Define the operators that the compiled part does not; the definitions live as long as the result."""
    if _compiled_part_loads():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _compiled_part_loads() -> bool:
    package = importlib.util.find_spec("torchvision")  # finds it without importing it
    if package is None:
        raise ModuleNotFoundError("torchvision is not installed", name="torchvision")
    compiled = importlib.machinery.PathFinder.find_spec("_C", package.submodule_search_locations)
    if compiled is None or compiled.origin is None:
        return False
    try:
        torch.ops.load_library(compiled.origin)  # type: ignore[no-untyped-call]
    except (ImportError, OSError):
        return False
    return True

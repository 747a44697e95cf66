"""Kubernetes quantities as numbers: 500m, 2Gi, 1e3."""

from __future__ import annotations

import math
from typing import Final

from jobrelay_train.config.quantity import quantity

#: A process killed for memory does not report how much it needed; this factor is a guess.
_AFTER_OUT_OF_MEMORY: Final = 2


def parse_quantity(text: str | float) -> float:
    """Convert a quantity to a number: CPUs, bytes. Raises ValueError."""
    return float(quantity(str(text)))


def as_memory(size: float) -> str:
    """Format a size in bytes as a quantity: 512Mi, 2Gi."""
    whole = math.ceil(size / 2**20)
    return f"{whole // 1024}Gi" if whole % 1024 == 0 else f"{whole}Mi"


def doubled(limit: str) -> str:
    """The limit to request after a stage ran out of memory: 2Gi → 4Gi. Raises ValueError."""
    return as_memory(parse_quantity(limit) * _AFTER_OUT_OF_MEMORY)

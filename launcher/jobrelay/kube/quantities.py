"""Kubernetes quantities as numbers: 500m, 2Gi, 1e3."""

from __future__ import annotations

import math
from typing import Final

from jobrelay_train.config.quantity import quantity

#: What is out of memory has not said how much it would have needed.
_AFTER_OUT_OF_MEMORY: Final = 2


def parse_quantity(text: str | float) -> float:
    """The number that a quantity means: CPUs, bytes. Raises ValueError."""
    return float(quantity(str(text)))


def as_memory(size: float) -> str:
    """512Mi, 2Gi"""
    whole = math.ceil(size / 2**20)
    return f"{whole // 1024}Gi" if whole % 1024 == 0 else f"{whole}Mi"


def doubled(limit: str) -> str:
    """What to ask for after a stage was out of memory: 2Gi → 4Gi. Raises ValueError."""
    return as_memory(parse_quantity(limit) * _AFTER_OUT_OF_MEMORY)

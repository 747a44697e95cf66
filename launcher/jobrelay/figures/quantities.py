"""Kubernetes quantities as numbers: 500m, 2Gi, 1e3."""

from __future__ import annotations

from jobrelay_train.config.quantity import quantity


def parse_quantity(text: str | float) -> float:
    """The number that a quantity means: CPUs, bytes. Raises ValueError."""
    return float(quantity(str(text)))

"""Kubernetes quantities, read as apimachinery's resource.ParseQuantity reads them: 500m, 1.5Gi, 2e9."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_SUFFIXES: Final = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}  # fmt: skip
#: A number, and either a suffix or an exponent, never both.
_QUANTITY: Final = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:[eE](?P<exponent>[+-]?[0-9]{1,3})|(?P<suffix>[A-Za-z]{0,2}))"
)


def quantity(text: str) -> Decimal:
    """Return the number that `text` stands for: CPUs, bytes. Raises ValueError."""
    match = _QUANTITY.fullmatch(text)
    if not match or (match["suffix"] or "") not in _SUFFIXES:
        raise ValueError(f"{text[:80]!r} is not a Kubernetes quantity, such as 500m, 1.5Gi or 2e9")
    if match["exponent"]:
        return Decimal(match["number"]).scaleb(int(match["exponent"]))
    return Decimal(match["number"]) * _SUFFIXES[match["suffix"] or ""]

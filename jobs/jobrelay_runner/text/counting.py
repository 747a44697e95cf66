"""Counts of things, as people write them."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, thing: str) -> str:
    """1 file, 2 files, 5 epochs, 1,234 classes"""
    return f"{number:,} {thing if number == 1 else _plural(thing)}"


def rate(per_second: float, things: str) -> str:
    """8.0k images/s, 412 images/s, 3.2 points/s"""
    if per_second >= 999.5:
        return f"{per_second / 1000:.1f}k {things}/s"
    return f"{per_second:.{0 if per_second >= 9.95 else 1}f} {things}/s"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, with an ellipsis if there are more: "a, b, c, …"."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _plural(thing: str) -> str:
    hissing = thing.endswith(("s", "x", "ch", "sh")) and not thing.endswith("epoch")
    return f"{thing}es" if hissing else f"{thing}s"

"""Numbers of things, as people write them."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, thing: str) -> str:
    """1 file, 2 files, 5 epochs, 1,234 classes"""
    return f"{number:,} {thing if number == 1 else _plural(thing)}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first names, and a sign that there are more: "a, b, c, …"."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _plural(thing: str) -> str:
    hissing = thing.endswith(("s", "x", "ch", "sh")) and not thing.endswith("epoch")
    return f"{thing}es" if hissing else f"{thing}s"

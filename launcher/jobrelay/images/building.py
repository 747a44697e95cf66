"""Which images there are to build, and from what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile below images/, with the options that make this image of it."""

    dockerfile: str
    image: str
    options: tuple[str, ...] = ()


RECIPES: Final = {
    "slim": Recipe("slim.Dockerfile", "jobrelay:0.1.0"),
    "gpu": Recipe("slim.Dockerfile", "jobrelay:0.1.0-gpu", ("--build-arg", "TORCH=cuda")),
    "bulky": Recipe("bulky.Dockerfile", "jobrelay-bulky:0.1.0"),
}

"""The images that JobRelay can build, and their Dockerfiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jobrelay_runner import __version__


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile below images/, and the build options for this image."""

    dockerfile: str
    image: str
    options: tuple[str, ...] = ()


RECIPES: Final = {
    "slim": Recipe("slim.Dockerfile", f"jobrelay:{__version__}"),
    "gpu": Recipe("slim.Dockerfile", f"jobrelay:{__version__}-gpu", ("--build-arg", "TORCH=cuda")),
    "bulky": Recipe("bulky.Dockerfile", f"jobrelay-bulky:{__version__}"),
}

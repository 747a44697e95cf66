"""Where in the workspace the folders of bind mounts and volumes lie."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


class Places:
    """One folder of the workspace for each folder of this machine, nested as the folders are.

    A path in the project keeps its relative path. One outside becomes `outside/NAME`; what lies in a folder
    that is mounted too lies in that one, so that both see the same files.
    """

    def __init__(self, project: Path, sources: Iterable[Path]) -> None:
        self._project = project
        self._roots: dict[Path, str] = {}
        for source in sorted(set(sources), key=lambda path: (len(path.parts), str(path))):
            if not _inside(source, project) and not self._below(source):
                self._roots[source] = self._new(source.name or "root")

    def of(self, source: Path) -> str:
        """The folder, "." for the workspace itself."""
        if found := self._below(source):
            return found
        return os.path.relpath(source, self._project)

    def volume(self, name: str) -> str:
        """The folder of a named volume. Not below `volumes` if a bind mount of the project lies there."""
        taken = (self._project / "volumes" / name).exists()
        return f"volumes/{name}-volume" if taken else f"volumes/{name}"

    def _below(self, source: Path) -> str | None:
        for root, place in self._roots.items():
            if _inside(source, root):
                return os.path.normpath(Path(place) / source.relative_to(root))
        return None

    def _new(self, name: str) -> str:
        place, count = f"outside/{name}", 1
        while place in self._roots.values():
            count += 1
            place = f"outside/{name}-{count}"
        return place


def _inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents

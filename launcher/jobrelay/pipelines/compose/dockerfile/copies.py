"""Where COPY and ADD put the files of a context."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from jobrelay.pipelines.compose.dockerfile.ignored import Ignored, glob

#: A file or folder of this machine, and the absolute path that it has in the image.
Copy = tuple[Path, str]

_ARCHIVE: Final = re.compile(r"\.(?:tar(?:\.\w+)?|tgz|tbz2?|txz)$")
_REMOTE: Final = re.compile(r"^(?:https?://|git@|ssh://|git://)")


def resolved(path: str, workdir: str) -> str:
    """A path in the image, absolute and normal."""
    return "/" + posixpath.normpath(posixpath.join(workdir, path or ".")).lstrip("/")


def into(sources: Sequence[str], target: str, workdir: str, folders: Collection[str]) -> tuple[str, bool]:
    """The target, absolute, and whether a file is put into it (rather than becoming it)."""
    place = resolved(target, workdir)
    folder = len(sources) > 1 or target.endswith(("/", "/.")) or target in (".", "..", "") or place in folders
    return place, folder


def from_context(
    context: Path,
    ignored: Ignored,
    sources: Sequence[str],
    place: str,
    folder: bool,
    *,
    unpacked: bool,
) -> tuple[list[Copy], list[str]]:
    """What is copied, and the sources that cannot be: remote, an archive that ADD unpacks, or not there."""
    copies: list[Copy] = []
    missing: list[str] = []
    for source in sources:
        if _REMOTE.match(source) or (unpacked and _ARCHIVE.search(source)):
            missing.append(source)
            continue
        names = _matching(context, posixpath.normpath("/" + source).lstrip("/") or ".")
        found = [
            copy
            for name in names
            for copy in _placed(context, ignored, name, place, folder or len(names) > 1)
        ]
        copies += found
        if not found:
            missing.append(source)
    return copies, missing


def _matching(context: Path, pattern: str) -> list[str]:
    """The paths of the context that a source names, wildcards or not."""
    if not re.search(r"[*?\[]", pattern):
        return [pattern] if os.path.lexists(context / pattern) else []
    found = ["."]
    for part in pattern.split("/"):
        expression = glob(part)
        found = [
            posixpath.normpath(f"{path}/{child.name}")
            for path in found
            if (context / path).is_dir()
            for child in sorted((context / path).iterdir())
            if expression.fullmatch(child.name)
        ]
    return found


def _placed(context: Path, ignored: Ignored, name: str, place: str, folder: bool) -> list[Copy]:
    """A folder's content goes to `place` itself, a file into it or there."""
    source = context / name
    if not source.is_dir():
        target = posixpath.join(place, source.name) if folder else place
        return [] if ignored(name) else [(source, target)]
    return [
        (context / kept, resolved(posixpath.relpath(kept, name), place))
        for kept in ignored.kept(context, name)
    ]


def from_stage(copies: Sequence[Copy], sources: Sequence[str], place: str, folder: bool) -> list[Copy]:
    """Those files of another stage's image that are known: what was copied into it from the context."""
    found: list[Copy] = []
    for source in sources:
        wanted = resolved(source, "/")
        for path, target in copies:
            if target == wanted:
                becomes = (
                    posixpath.join(place, posixpath.basename(target)) if folder and path.is_file() else place
                )
                found.append((path, becomes))
            elif target.startswith(wanted.rstrip("/") + "/"):
                found.append((path, resolved(posixpath.relpath(target, wanted), place)))
            elif wanted.startswith(target.rstrip("/") + "/"):
                inner = path / posixpath.relpath(wanted, target)
                if inner.is_dir():
                    found.append((inner, place))
                elif inner.is_file():
                    found.append((inner, posixpath.join(place, inner.name) if folder else place))
    return found

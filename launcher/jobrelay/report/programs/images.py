"""The pictures that stages wrote, as data: URIs: in an <img>, an SVG runs no script and loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Final

from jobrelay.report.programs.written import Written, chosen
from jobrelay_runner.text.counting import counted

_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
_MOST: Final = 36
_MOST_BYTES: Final = 512 * 1024
_MOST_IN_ALL: Final = 6 * 2**20
#: The first bytes of a file → its type, whatever its name says.
_KINDS: Final = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
}


@dataclass(frozen=True)
class Shown:
    """address: data:…"""

    stage: str
    name: str
    address: str


@dataclass(frozen=True)
class Gallery:
    """left_out: what is not shown, in a few words."""

    pictures: tuple[Shown, ...]
    left_out: tuple[str, ...]


def gallery_of(folder: Path, written: Sequence[Written]) -> Gallery:
    """The pictures to show: of each folder some, evenly spaced, and its last one."""
    files = chosen(written, _SUFFIXES)
    shown: list[Shown] = []
    large = unusable = 0
    room = _MOST_IN_ALL
    some = _some(files)
    for file in some:
        if file.size > _MOST_BYTES or file.size > room:
            large += 1
            continue
        try:
            content = file.read(_MOST_BYTES, folder)
        except (OSError, ValueError):
            unusable += 1
            continue
        if kind := _kind(content, file.suffix):
            room -= len(content)
            address = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
            shown.append(Shown(file.stage, file.name, address))
        else:
            unusable += 1
    left_out = []
    if large:
        left_out.append(f"{counted(large, 'picture')} too large for this page")
    if unusable:
        left_out.append(f"{counted(unusable, 'file')} not here, or no picture")
    if len(files) > len(some):
        left_out.append(f"{counted(len(files) - len(some), 'more picture')} in the folder of the run")
    return Gallery(tuple(shown), tuple(left_out))


def _some(files: Sequence[Written]) -> list[Written]:
    """At most _MOST files, so that each folder of each stage has its share."""
    groups = [
        list(group) for _, group in groupby(files, lambda file: (file.stage, PurePosixPath(file.name).parent))
    ]
    share = _MOST
    while sum(min(len(group), share) for group in groups) > _MOST and share > 1:
        share -= 1
    return [file for group in groups for file in _spaced(group, share)][:_MOST]


def _spaced(files: Sequence[Written], most: int) -> list[Written]:
    if len(files) <= most:
        return list(files)
    if most == 1:
        return [files[-1]]
    return [files[round(number * (len(files) - 1) / (most - 1))] for number in range(most)]


def _kind(content: bytes, suffix: str) -> str | None:
    """The type of a picture by its first bytes; None for anything else."""
    for sign, kind in _KINDS.items():
        if content.startswith(sign):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return "svg+xml" if suffix == ".svg" and b"<svg" in content[:4096] else None

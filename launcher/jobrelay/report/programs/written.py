"""The files that stages wrote in the workspace, each with the last stage that wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import WORKSPACE
from jobrelay_runner.volume.record import Record
from jobrelay_runner.volume.safe_read import read_bytes

_LONGEST_NAME: Final = 300
_PREFIX: Final = f"{WORKSPACE}/"


@dataclass(frozen=True)
class Written:
    """A file of the workspace. name: as the stage knows it. path: here."""

    stage: Stage
    name: str
    path: Path
    size: int

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower()

    def read(self, most: int, folder: Path) -> bytes:
        """Its content. folder: of the run. Raises OSError for one that is not safe to read, or too large."""
        return read_bytes(self.path, most, root=folder)


def is_program(record: Record | None) -> bool:
    """Whether a stage ran a command in the workspace, not one of the built-in programs."""
    if record is None:
        return False
    return "command" in record.means or "code" in record.means or any(map(_is_in_workspace, record.outputs))


def written_files(folder: Path, records: Mapping[Stage, Record | None]) -> list[Written]:
    """All files of the workspace that stages wrote, by stage and name.

    records: in the order of the stages.
    """
    last: dict[str, Written] = {}
    for stage, record in records.items():
        for name, digest in record.outputs.items() if record else ():
            if _is_in_workspace(name) and "\0" not in name and len(name) <= _LONGEST_NAME:
                last[name] = Written(stage, name.removeprefix(_PREFIX), folder / name, digest.bytes)
    order = list(records)
    return sorted(last.values(), key=lambda file: (order.index(file.stage), natural(file.name)))


def chosen(files: Iterable[Written], suffixes: Iterable[str]) -> list[Written]:
    """Those with one of the suffixes."""
    wanted = frozenset(suffixes)
    return [file for file in files if file.suffix in wanted]


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts epoch-2 before epoch-10."""
    parts = re.split(r"(\d{1,18})", name)
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts]


def _is_in_workspace(name: str) -> bool:
    return name.startswith(_PREFIX)

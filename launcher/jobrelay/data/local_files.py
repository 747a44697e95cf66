"""The files of a local folder that `put` copies, and those that it cannot copy.

A link in the folder may lead anywhere; a link inside a linked folder may lead only into that folder or back
into the source. Every file and folder is copied once, under its own name in the source if it has one, so
that a circle of links ends. Each file that cannot be copied is reported with the reason; none is skipped
silently.

Names are converted to Unicode's composed form (NFC), because macOS may write the decomposed form of the same
name. If two files then share a name, the second is dropped if its content is the same, else renamed.
"""

from __future__ import annotations

import errno
import filecmp
import os
import stat
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from jobrelay_runner.volume.archive import PROOFS_NAME, why_odd
from jobrelay_runner.volume.layout import nfc, shown

#: Names that a message lists.
_MOST_NAMED: Final = 20


@dataclass
class LocalFiles:
    """The contents of a folder.

    files: name on the volume → local path. bytes: their total size. refused: name → why it cannot be copied.
    links: number of links followed; outside: name → target, for links that leave the folder. dropped: files
    with the same content and, up to Unicode form, the same name as another; renamed: the same name, other
    content. empty: folders without entries.
    """

    files: dict[str, Path] = field(default_factory=dict)
    bytes: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    links: int = 0
    outside: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)


def survey(folder: Path) -> LocalFiles:
    """Walk a folder. Raises OSError if it cannot be listed."""
    found = LocalFiles()
    walk = _Walk(folder.resolve(strict=True), found)
    walk.everything()
    _name(walk.taken, found)
    found.bytes = sum(path.stat().st_size for path in found.files.values())
    return found


def notes(found: LocalFiles) -> list[str]:
    """Lines about the copy that the user must know."""
    lines = []
    if found.links:
        follow = f"followed {_count(found.links, 'link')}"
        verb = "leads" if len(found.outside) == 1 else "lead"
        away = f", {len(found.outside):,} of which {verb} out of the folder: {_pairs(found.outside)}"
        lines.append(follow + (away if found.outside else ""))
    if found.refused:
        lines.append(f"left out {_count(len(found.refused), 'name')}: {_pairs(found.refused)}")
    if found.dropped:
        twice = f"{_count(len(found.dropped), 'file')} dropped, being there in another spelling of the name"
        lines.append(f"{twice}: {_pairs(found.dropped)}")
    if found.renamed:
        other = (
            f"{_count(len(found.renamed), 'file')} renamed, since others have these names in other spellings"
        )
        lines.append(f"{other}: {_pairs(found.renamed)}")
    if found.empty:
        lines.append(
            f"{_count(len(found.empty), 'empty folder')} not copied: {_listed(map(shown, found.empty))}"
        )
    return lines


def refusal(folder: Path, found: LocalFiles) -> str:
    """Why a folder cannot be copied as it is: every name with its reason, up to 20."""
    lines = [f"\n    {shown(name)}: {why}" for name, why in list(found.refused.items())[:_MOST_NAMED]]
    more = len(found.refused) - len(lines)
    return (
        f"{_count(len(found.refused), 'name')} in {folder} cannot be copied; rename, repair or remove them, "
        "or leave them out:" + "".join(lines) + (f"\n    and {more:,} more" if more > 0 else "")
    )


class _Walk:
    """Everything below a folder: first the files in it, then the targets of its links."""

    def __init__(self, source: Path, found: LocalFiles) -> None:
        self.source = source
        self.found = found
        self.taken: dict[str, Path] = {}  # by the name in the source
        self._names: dict[Path, str] = {}  # of every file and folder taken, by real path
        self._links: deque[tuple[str, Path, Path | None]] = deque()  # with the linked folder around it

    def everything(self) -> None:
        self._enter("", self.source, None)
        while self._links:
            name, path, linked = self._links.popleft()
            if why := self._follow(name, path, linked):
                self.found.refused[name] = why

    def _enter(self, name: str, folder: Path, linked: Path | None) -> None:
        """Take all files of a folder and its subfolders; queue its links."""
        waiting = [(name, folder)]
        while waiting:
            name, folder = waiting.pop()
            if folder in self._names:
                self.found.refused[name] = f"it is {self._known(folder)}, which is copied already"
                continue
            self._names[folder] = name
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                if folder == self.source:
                    raise
                self.found.refused[name] = f"the folder cannot be listed: {error.strerror}"
                continue
            if not entries and name:
                self.found.empty.append(name)
            for entry in entries:
                inner, path = f"{name}/{entry.name}" if name else entry.name, folder / entry.name
                if entry.is_symlink():
                    self._links.append((inner, path, linked))
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((inner, path))
                elif why := self._take(inner, path):
                    self.found.refused[inner] = why

    def _follow(self, name: str, path: Path, linked: Path | None) -> str | None:
        """Take the target of a link; return the reason if that is not possible."""
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop, before Python 3.13
            leads = f"a link to {shown(str(path.readlink()))}"
            if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:
                return f"{leads}, which leads in a circle"
            return f"{leads}: {error.strerror}"
        inside = target.is_relative_to(self.source)
        if path.parent.resolve().is_relative_to(target):
            return f"a link to {shown(str(target))}, which it lies in itself"
        if target in self._names:
            return f"a link to {self._known(target)}, which is copied already"
        if linked and not inside and not target.is_relative_to(linked):
            return (
                f"a link in {shown(str(linked))}, which a link leads to, that leads on to "
                f"{shown(str(target))}"
            )
        if self.source.is_relative_to(target):
            return f"a link to {shown(str(target))}, which holds the whole folder"
        if target.is_dir():
            self._enter(name, target, linked if inside else linked or target)
        elif why := self._take(name, target):
            return f"a link to {shown(str(target))}: {why}"
        self.found.links += 1
        if not inside and not linked:
            self.found.outside[name] = str(target)
        return None

    def _take(self, name: str, path: Path) -> str | None:
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                return "it is neither a file nor a folder"
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        if path in self._names:
            return f"it is {self._known(path)}, which is copied already"
        if not os.access(path, os.R_OK):
            return f"it cannot be read: {os.strerror(errno.EACCES)}"
        self.taken[name] = path
        self._names[path] = name
        return None

    def _known(self, path: Path) -> str:
        return shown(self._names[path] or str(path))


def _name(taken: Mapping[str, Path], found: LocalFiles) -> None:
    """Give every file its name on the volume."""
    in_order = sorted(taken, key=lambda name: (name != nfc(name), name))  # composed names stay unchanged
    folders = {str(parent) for name in taken for parent in PurePosixPath(nfc(name)).parents}
    for name in in_order:
        path, new = taken[name], nfc(name)
        if why := why_odd(new) or ("its name is reserved" if new == PROOFS_NAME else None):
            found.refused[name] = why
        elif new in folders:
            found.refused[name] = "its name is, in another spelling, that of a folder"
        elif new not in found.files:
            found.files[new] = path
        elif filecmp.cmp(found.files[new], path, shallow=False):
            found.dropped[name] = new
        else:
            found.renamed[name] = free = _free(new, found.files)
            found.files[free] = path
    found.refused = dict(sorted(found.refused.items()))
    found.empty.sort()


def _free(name: str, files: Mapping[str, Path]) -> str:
    path = PurePosixPath(name)
    number = 2
    while (free := str(path.with_name(f"{path.stem}-{number}{path.suffix}"))) in files:
        number += 1
    return free


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _pairs(of_names: Mapping[str, str]) -> str:
    return _listed((f"{shown(name)}: {shown(why)}" for name, why in of_names.items()), "; ")


def _listed(names: Iterable[str], between: str = ", ") -> str:
    names = list(names)
    more = len(names) - _MOST_NAMED
    return between.join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")

"""The workspace of a run: the folder in which every stage works, and what each stage changes there."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Dict, Final, Iterator, List, Mapping, Tuple

from jobrelay_runner.errors import BadInput
from jobrelay_runner.volume.files import cannot_be_listed, make_folder, write_atomically
from jobrelay_runner.volume.paths import CODE_MARKER, RunFolder
from jobrelay_runner.volume.record import FileDigest

#: What programs leave in passing: no result, and different each time.
_PASSING: Final = ("__pycache__", ".git", ".ipynb_checkpoints", ".pytest_cache")
#: Names in a record; see supervisor.
MOST_FILES: Final = 50_000

State = Dict[str, Tuple[int, int, int]]


@dataclass(frozen=True)
class Changes:
    """What a stage did to the workspace; names are relative to the run's folder."""

    written: Dict[str, FileDigest]
    removed: List[str]
    left_out: int = 0


def unpack_code(folder: RunFolder, archive: bytes, digest: str) -> None:
    """Put the code into the workspace, unless it is there: a stage may have changed it since.

    A later stage with other code gets that code over the present one. Raises BadInput, OSError.
    """
    make_folder(folder.workspace)
    marker = folder.path / CODE_MARKER
    if marker.is_file() and marker.read_text(encoding="ascii") == digest:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as members:
            for member in members:
                _extract(members, member, folder.workspace)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise BadInput(f"the code's archive is damaged: {error}") from error
    write_atomically(marker, digest)


def _extract(members: tarfile.TarFile, member: tarfile.TarInfo, workspace: Path) -> None:
    """Extract a folder, a file or a link. tarfile's own filters came with Python 3.12."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise BadInput(f"the code's archive leads out of the workspace: {member.name}")
    path = workspace / name
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()  # a new file: what else has the old one open, or linked, keeps it
    if member.issym():
        path.symlink_to(member.linkname)
        return
    source = members.extractfile(member)
    if source is None:
        raise BadInput(f"the code's archive holds something that is no file: {member.name}")
    with source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    path.chmod(member.mode & 0o777 | 0o600)


def state_of(folder: RunFolder) -> State:
    """Return size, time of last change and inode of every file in the workspace."""
    state: State = {}
    for path in _files(folder.workspace):
        status = path.lstat()
        state[_name(path, folder)] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return state


def changes_since(before: Mapping[str, Tuple[int, int, int]], folder: RunFolder) -> Changes:
    """Return what was written or removed since `before`, with the digests of the files as they are now."""
    after = state_of(folder)
    changed = [name for name, state in after.items() if before.get(name) != state]
    written: Dict[str, FileDigest] = {}
    for name in changed[:MOST_FILES]:
        try:
            written[name] = FileDigest.of(folder.path / name, root=folder.root)
        except FileNotFoundError:  # a process that the stage left behind removed it
            continue
    return Changes(written, sorted(before.keys() - after.keys()), max(0, len(changed) - MOST_FILES))


def _files(workspace: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(workspace, onerror=cannot_be_listed):
        folders[:] = sorted(name for name in folders if name not in _PASSING)
        for name in sorted(files):
            path = Path(here, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _name(path: Path, folder: RunFolder) -> str:
    return path.relative_to(folder.path).as_posix()

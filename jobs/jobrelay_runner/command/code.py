"""The code of a pipeline: an archive with the first files of the workspace."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import List

from jobrelay_runner.errors import BadInput
from jobrelay_runner.volume.files import write_atomically
from jobrelay_runner.volume.paths import RunFolder


def unpack(folder: RunFolder, archive: bytes, digest: str) -> List[str]:
    """Put the code into the workspace; return its files, by their names relative to the run's folder.

    Code that comes with a later stage replaces the files of the same names. Raises BadInput, OSError.
    """
    if hashlib.sha256(archive).hexdigest() != digest:
        raise BadInput(f"the code's archive is damaged: its SHA-256 is not {digest}")
    names: List[str] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as members:
            for member in members:
                _extract(members, member, folder.workspace)
                names.append(os.path.relpath(folder.workspace / member.name, folder.path))
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"the code's archive is damaged: {error}") from error
    write_atomically(folder.code, digest)
    return names


def _extract(members: tarfile.TarFile, member: tarfile.TarInfo, workspace: Path) -> None:
    """Extract a folder, a file or a link. tarfile's own filters came with Python 3.12."""
    name = PurePosixPath(member.name)
    path = workspace / name
    if name.is_absolute() or ".." in name.parts or not _is_below(path.parent, workspace):
        raise BadInput(f"the code's archive leads out of the workspace: {member.name}")
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()  # a new file: what else has the old one open, or linked, keeps it
    if member.issym():
        path.symlink_to(member.linkname)
        return
    source = members.extractfile(member) if member.isfile() else None
    if source is None:
        raise BadInput(f"the code's archive holds something that is no file: {member.name}")
    with source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    path.chmod(member.mode & 0o777 | 0o600)


def _is_below(path: Path, workspace: Path) -> bool:
    """Whether the path is in the workspace once its links are followed."""
    whole, root = path.resolve(), workspace.resolve()
    return whole == root or root in whole.parents

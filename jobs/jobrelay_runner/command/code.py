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

from jobrelay_runner.command.specification import CODE_FILE
from jobrelay_runner.errors import BadInput
from jobrelay_runner.volume.files import write_atomically
from jobrelay_runner.volume.paths import RunFolder


def read_archive(digest: str, config: Path, root: Path) -> bytes:
    """Return the code's archive: beside the configuration, or on the volume if it is too large for that.

    Raises BadInput, OSError.
    """
    for path in (config.with_name(CODE_FILE), root / "code" / digest / CODE_FILE):
        if path.is_file():
            return path.read_bytes()
    raise BadInput(f"the code {digest[:12]} is neither in the ConfigMap nor on the volume")


def unpack(folder: RunFolder, archive: bytes, digest: str) -> List[str]:
    """Put the code into the workspace; return its files, by their names relative to the run's folder.

    Code that comes with a later stage replaces the files of the same names. Raises BadInput, OSError.
    """
    names = extract(archive, digest, folder.workspace)
    write_atomically(folder.code, digest)
    return [os.path.relpath(folder.workspace / name, folder.path) for name in names]


def extract(archive: bytes, digest: str, target: Path) -> List[str]:
    """Unpack an archive with this digest into a folder; return the names in it. Raises BadInput, OSError."""
    if hashlib.sha256(archive).hexdigest() != digest:
        raise BadInput(f"the code's archive is damaged: its SHA-256 is not {digest}")
    names: List[str] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive))) as members:
            for member in members:
                _extract(members, member, target)
                names.append(member.name)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"the code's archive is damaged: {error}") from error
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
        raise BadInput(f"the code's archive holds something that is not a file: {member.name}")
    with source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    path.chmod(member.mode & 0o777 | 0o600)


def _is_below(path: Path, workspace: Path) -> bool:
    """Whether the path is in the workspace once its links are followed."""
    whole, root = path.resolve(), workspace.resolve()
    return whole == root or root in whole.parents

"""A run's files from an image without Python: what `tar` sends, in the form that a fetch expects."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from jobrelay_runner.volume.archive import PROOFS_NAME, ArchiveError, stream_of, streamed
from jobrelay_runner.volume.paths import CODE_MARKER


def with_proofs(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the regular files of a tar, and their digests at its end. Raises ArchiveError.

    Digests made on arrival prove only that nothing changes from here on.
    """

    def write(out: IO[bytes]) -> int:
        digests: dict[str, dict[str, Any]] = {}
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for name, content in _files(chunks):
                _add(tar, name, content)
                digests[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            _add(tar, PROOFS_NAME, json.dumps(digests).encode())
        return len(digests)

    return streamed(write)


def _files(chunks: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=stream_of(chunks), mode="r|") as tar:
            for member in tar:
                name = PurePosixPath(member.name).as_posix()
                if name.endswith(".partial") or name == CODE_MARKER or not member.isreg():
                    continue
                if content := tar.extractfile(member):
                    yield name, content.read()
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"the stream was cut or is not an archive: {error}") from error


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))

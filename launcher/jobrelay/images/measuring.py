"""Measure the size of an image from its archive, in one pass and without unpacking it."""

from __future__ import annotations

import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from gzip import GzipFile
from typing import IO, Any, Final, cast

from pydantic import BaseModel, Field, TypeAdapter
from pydantic import ValidationError as PydanticError

from jobrelay.errors import BadInput

_BLOCK: Final = 1 << 20
#: The gzip level with which docker, podman and buildah push layers.
_LEVEL: Final = 6
_MANIFEST_BYTES: Final = 1 << 20


class _Manifest(BaseModel):
    layers: list[str] = Field(alias="Layers")


_MANIFESTS: Final = TypeAdapter(list[_Manifest])


@dataclass(frozen=True)
class Weight:
    """Size of an image or a layer.

    Bytes: of the files as a node unpacks them, and of the gzip layers that a registry stores and a node
    pulls. files: number of files and links, without directories.
    """

    bytes_on_disk: int = 0
    compressed_bytes: int = 0
    files: int = 0
    layers: int = 0

    def __add__(self, other: Weight) -> Weight:
        return Weight(
            self.bytes_on_disk + other.bytes_on_disk,
            self.compressed_bytes + other.compressed_bytes,
            self.files + other.files,
            self.layers + other.layers,
        )


def weigh(archive: IO[bytes]) -> Weight:
    """Measure the image in an archive of `docker save`. Raises BadInput for anything else."""
    known: dict[str, Weight] = {}
    links: dict[str, str] = {}
    names: list[str] | None = None
    try:
        with tarfile.open(fileobj=archive, mode="r|", bufsize=_BLOCK) as whole:
            for member in _members(whole):
                name = posixpath.normpath(member.name)
                if member.issym() or member.islnk():  # a duplicate layer
                    start = posixpath.dirname(name) if member.issym() else ""
                    links[name] = posixpath.normpath(posixpath.join(start, member.linkname))
                    continue
                content: Any = whole.extractfile(member)  # a BufferedReader, but typeshed declares IO
                if content is None:
                    continue
                if name == "manifest.json":
                    names = _layer_names(content.read(_MANIFEST_BYTES))
                elif _is_layer(head := content.peek(512)[:512]):
                    known[name] = _weigh_layer(content, member.size, is_gzip=head.startswith(b"\x1f\x8b"))
        while archive.read(_BLOCK):  # padding after the end, so that the writer can finish
            pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise BadInput(f"the archive of the image cannot be read: {error}") from error
    if names is None:
        raise BadInput("the archive holds no manifest.json: it is not one of `docker save`")
    total = Weight()
    for name in names:
        layer = known.get(links.get(name, name))
        if layer is None:
            raise BadInput(f"layer {name} of the image is in none of the formats tar and tar.gz")
        total += layer
    return total


def _layer_names(content: bytes) -> list[str]:
    try:
        manifests = _MANIFESTS.validate_json(content)
    except PydanticError as error:
        raise BadInput(f"the archive's manifest.json cannot be read: {error}") from error
    if len(manifests) != 1:
        raise BadInput(f"the archive holds {len(manifests)} images, one is expected")
    return [posixpath.normpath(name) for name in manifests[0].layers]


def _is_layer(head: bytes) -> bool:
    """Whether the first bytes are those of gzip, a tar header, or the end of an empty tar."""
    return head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar" or head == bytes(512)


def _weigh_layer(content: IO[bytes], size: int, *, is_gzip: bool) -> Weight:
    if is_gzip:
        with GzipFile(fileobj=content) as unpacked:
            return _weigh_files(cast("IO[bytes]", unpacked)) + Weight(compressed_bytes=size, layers=1)
    compressing = _Compressing(content)
    files = _weigh_files(cast("IO[bytes]", compressing))
    return files + Weight(compressed_bytes=compressing.finish(), layers=1)


def _weigh_files(layer: IO[bytes]) -> Weight:
    files = size = 0
    with tarfile.open(fileobj=layer, mode="r|", bufsize=_BLOCK) as tree:
        for member in _members(tree):
            if posixpath.basename(member.name).startswith(
                ".wh."
            ):  # whiteouts: a file of a lower layer is deleted
                continue
            files += member.isfile() or member.issym() or member.islnk()
            size += member.size if member.isfile() else 0
    while layer.read(_BLOCK):
        pass
    return Weight(bytes_on_disk=size, files=files)


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Iterate over the members without keeping them all in memory, as tarfile would."""
    for member in archive:
        yield member
        archive.members = []  # type: ignore[attr-defined]


class _Compressing:
    """A file wrapper that compresses everything read from it and only counts the result."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._gzip = zlib.compressobj(_LEVEL, wbits=31)
        self._count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._count += len(self._gzip.compress(data))
        return data

    def finish(self) -> int:
        """Size in bytes of everything read, compressed."""
        return self._count + len(self._gzip.flush())

"""Files written by torch.save: a zip archive since PyTorch 1.6, a sequence of pickles before.

archive/data.pkl      names and numbers, and for each tensor the values that it views
archive/data/KEY      the values of one storage, as they lie in memory
archive/byteorder     little
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any, Final

import torch
from torch import Tensor

from jobrelay_runner.text.counting import counted
from jobrelay_train.models.serialization.tensors import Source, UntrustedFile
from jobrelay_train.models.serialization.unpickling import unpickle

ZIP: Final = b"PK\x03\x04"
#: The pickle of 0x1950A86A20F9469CFC6C, with which the older format starts.
OLDER: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

#: Size limit of the part that is not tensors: after 1000 epochs, a checkpoint's has 70 KB.
_PICKLE_BYTES: Final = 4 * 1024 * 1024
#: Most members of an archive, which has at most two for each tensor.
_MEMBERS: Final = 50_000
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")


def from_zip(content: bytes) -> Any:
    """Return the object in a file of PyTorch 1.6 or newer. Raises UntrustedFile, and what zipfile raises."""
    archive = _Archive(content)
    names = [name for name in archive.members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(names) != 1:
        raise UntrustedFile(f"it is a zip archive with {counted(len(names), 'pickle')} instead of one")
    (name,) = names
    folder = name.removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.members and archive.read(f"{folder}byteorder") != b"little":
        raise UntrustedFile("its numbers have another byte order")
    source = Source(content)
    stored: dict[str, Tensor] = {}

    def storage(key: str, dtype: torch.dtype, count: Any) -> Tensor:
        if key not in stored:
            start, size = archive.place(f"{folder}data/{key}")
            stored[key] = source.values(dtype, count, start)
            if stored[key].nbytes > size:
                raise UntrustedFile(f"it claims {count:,} values where there are {size:,} bytes")
        return stored[key].view(dtype)

    return unpickle(io.BytesIO(archive.read(name)), source, storage)


class _Archive:
    """Members of a zip archive that are stored uncompressed and do not overlap."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        if content.count(b"PK\x01\x02") > _MEMBERS:  # zipfile makes an object of ten times its size for each
            raise UntrustedFile(f"it has more than {_MEMBERS:,} members")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = archive.infolist()
        self.members = {member.filename: member for member in found}
        # PyTorch ignores the case of names, and would read the other one.
        if len({name.lower() for name in self.members}) < len(found):
            raise UntrustedFile("it has two members of one name")
        if sum(member.file_size for member in found) > len(content):
            raise UntrustedFile("it unpacks to more than its own size")

    def place(self, name: str) -> tuple[int, int]:
        """Return where a member's bytes start, and how many they are. Raises UntrustedFile."""
        if name not in self.members:
            raise UntrustedFile(f"it has no {name}")
        member = self.members[name]
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise UntrustedFile(f"{name} in it is compressed")
        signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(self._content, member.header_offset)
        start = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
        if signature != ZIP or start + member.file_size > len(self._content):
            raise UntrustedFile(f"{name} in it is not where the archive says")
        return start, member.file_size

    def read(self, name: str) -> bytes:
        """Return a small member's bytes. Raises UntrustedFile."""
        start, size = self.place(name)
        if size > _PICKLE_BYTES:
            raise UntrustedFile(f"its {name} has {size:,} bytes")
        return self._content[start : start + size]


def from_pickles(content: bytes) -> Any:
    """Return the object in a file of PyTorch before 1.6. Raises UntrustedFile, and pickletools' errors."""
    file, source = io.BytesIO(content), Source(content)
    stored: dict[str, Tensor] = {}

    def storage(key: str, dtype: torch.dtype, count: Any) -> Tensor:
        if key not in stored:
            stored[key] = source.reserve(dtype, count)
        return stored[key].view(dtype)

    _magic, _version, system, state, keys = (unpickle(file, source, storage) for _ in range(5))
    if not system["little_endian"]:
        raise UntrustedFile("its numbers have another byte order")
    if sorted(keys) != sorted(stored):
        raise UntrustedFile("the values in it are not those that its tensors look at")
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        if count != stored[key].numel():
            raise UntrustedFile(f"it claims {stored[key].numel():,} values where there are {count:,}")
        source.fill(stored[key], file.tell())
        file.seek(stored[key].nbytes, io.SEEK_CUR)
    return state

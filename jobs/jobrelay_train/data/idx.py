"""IDX, the file format of MNIST and its relatives, plain or gzip.

Big-endian: two zero bytes, type (8: uint8), number of dimensions, a 32-bit size for each of them,
then the values. Source: the format's description on Yann LeCun's MNIST page.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from jobrelay_runner.errors import BadInput, passing_trouble
from jobrelay_runner.text.counting import counted
from jobrelay_runner.usage.cgroup import memory_bytes
from jobrelay_runner.volume.safe_read import why
from jobrelay_train.data.filekinds import GZIP, HEAD_BYTES, kind_of

_UINT8: Final = 8
#: Files are unpacked in memory, and a damaged header may claim terabytes.
_MAX_UNPACKED_BYTES: Final = 2 * 1024**3
#: A file that needs more than this share of memory is mapped, so that the kernel keeps as much as fits. A
#: smaller one is copied, which protects it from later changes to the file.
_SHARE_OF_MEMORY: Final = 0.25


def read_images(path: Path) -> Tensor:
    """Read images as uint8 (N, 1, H, W). Raises BadInput or Failed, naming the file."""
    return _read(path, dimensions=3).unsqueeze(1)


def read_labels(path: Path) -> Tensor:
    """Read labels as int64 (N,). Raises BadInput or Failed, naming the file."""
    return _read(path, dimensions=1).long()


def _read(path: Path, dimensions: int) -> Tensor:
    """Read a file as uint8 in the shape that it declares."""
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic != bytes([0, 0, _UINT8, dimensions]):
                head = magic + file.read(HEAD_BYTES)
                raise BadInput(
                    f"{path} is not an IDX file of bytes with {counted(dimensions, 'dimension')}: "
                    f"it is {kind_of(head)} (its first bytes: {magic.hex(' ') or 'none'})"
                )
            sizes = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            count = math.prod(sizes)
            there = None if packed else path.stat().st_size - file.tell()
            if not 0 < count <= (_MAX_UNPACKED_BYTES if there is None else max(there, _MAX_UNPACKED_BYTES)):
                raise BadInput(
                    f"{path} says that it holds {' x '.join(map(str, sizes))} values; it is damaged"
                    + (", or too large to be unpacked in memory: put it there without .gz" if packed else "")
                )
            if there == count > memory_bytes() * _SHARE_OF_MEMORY:
                whole = torch.from_file(str(path), size=file.tell() + count, dtype=torch.uint8)
                return whole[file.tell() :].view(*sizes)
            values = bytearray(file.read(count + 1))
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise passing_trouble(error, path) or BadInput(
            f"{path} cannot be read, it may be damaged or cut off: {why(error)}{_what_it_is(path)}"
        ) from error
    if len(values) != count:
        found = f"only {len(values)}" if len(values) < count else "more"
        raise BadInput(f"{path} is damaged: its header promises {count} bytes, and it has {found}")
    return torch.frombuffer(values, dtype=torch.uint8).view(*sizes)


def _what_it_is(path: Path) -> str:
    """Return ` (it is a web page)` if the file is not the gzip archive that its name promises."""
    with suppress(OSError), path.open("rb") as file:
        kind = kind_of(file.read(HEAD_BYTES))
        return f" (it is {kind})" if path.suffix == ".gz" and kind != GZIP else ""
    return ""

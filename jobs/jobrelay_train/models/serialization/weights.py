"""State as the bytes of a file and back: bytes that are not this program's own are never believed.

Two things can be wrong with a file of weights. It may not be the one that its record tells of: it is
damaged, and an older one may do. Or it may be that very one and hold what this program does not write:
then somebody has made it, and its record too, and nothing in that place can be trusted.

`torch.load(weights_only=True)` runs no code, but some harmless names that it allows make gigabytes out
of a few bytes. A look at the file beforehand does not help: it is a look by another reader, which sees
another file (PyTorch takes DATA.PKL for data.pkl). So the file is read here, by a reader that can make
nothing but what it holds (unpickling, tensors), and of a file that is no larger than expected.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobrelay_runner.errors import StageError, one_line
from jobrelay_runner.volume.record import FileDigest
from jobrelay_runner.volume.safe_read import TooLarge, UnsafeFile, read_bytes
from jobrelay_train.data.filekinds import HEAD_BYTES, kind_of
from jobrelay_train.models.serialization import safetensors, torchfile
from jobrelay_train.models.serialization.tensors import UntrustedFile as UntrustedFile

#: What a file has beside its tensors' values: names, figures of a thousand epochs, and the archive itself.
_BESIDE_THE_VALUES = 16 * 1024 * 1024


class CorruptFile(ValueError):
    """A file is not the one that was written."""


def to_bytes(state: Mapping[str, Any]) -> bytes:
    """`state` as torch.save writes it; in memory, so that a full disk is an OSError of the writing."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def model_to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """model.pt, for a model with this state: the same bytes for the same state, wherever it comes from."""
    return to_bytes({name: tensor.cpu().contiguous() for name, tensor in state.items()})


def room_for(tensors: Iterable[Tensor], copies: int = 1) -> int:
    """How many bytes a file may have that holds so many copies of these tensors."""
    return copies * sum(tensor.nbytes for tensor in tensors) + _BESIDE_THE_VALUES


def load_verified(path: Path, digest: FileDigest, limit: int) -> dict[str, Any]:
    """Tensors (on the CPU) and plain values from the file of this digest.

    Raises OSError, CorruptFile, UntrustedFile.

    limit: more bytes than that are not read, whatever the digest says: a file with holes takes no room on
    the volume, and all of its size in memory. The hash is of the very bytes that are read.
    """
    try:
        content = read_bytes(path, min(digest.bytes, limit))
    except TooLarge as error:
        if digest.bytes <= limit:
            raise CorruptFile(f"it has more than the {digest.bytes:,} bytes that are expected") from error
        raise UntrustedFile(
            f"its recorded size is {digest.bytes:,} bytes; at most {limit:,} are needed"
        ) from error
    except UnsafeFile as error:
        raise CorruptFile(f"it {error.strerror}") from error
    if len(content) != digest.bytes:
        raise CorruptFile(f"it has {len(content):,} bytes, {digest.bytes:,} are expected; it is damaged")
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != digest.sha256:
        raise CorruptFile(
            f"its SHA-256 is {sha256[:12]}…, {digest.sha256[:12]}… is expected; it is damaged or another file"
        )
    return from_bytes(content)


def from_bytes(content: bytes) -> dict[str, Any]:
    """The dict in a file of PyTorch's or of safetensors. Raises UntrustedFile.

    What it takes in memory is no more than a few times `content`.
    """
    try:
        state = _reader_of(content)(content)
    except (UntrustedFile, StageError):  # SIGTERM, which may come anywhere, is no fault of the file's
        raise
    except Exception as error:  # whatever a file of somebody else's may provoke
        raise UntrustedFile(f"it is not a file as PyTorch writes it: {one_line(error)}") from error
    if not isinstance(state, dict):
        raise UntrustedFile("it does not hold a state_dict")
    return state


def _reader_of(content: bytes) -> Callable[[bytes], Any]:
    if content.startswith(torchfile.ZIP):
        return torchfile.from_zip
    if content.startswith(torchfile.OLDER):
        return torchfile.from_pickles
    if safetensors.looks_like_it(content):
        return safetensors.from_safetensors
    raise UntrustedFile(f"it is {kind_of(content[:HEAD_BYTES])}")

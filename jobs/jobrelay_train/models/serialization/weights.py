"""Convert state to the bytes of a file and back; bytes that this program did not write are never trusted.

Two things can be wrong with a file of weights. It may not match its record: then it is damaged, and an older
file may do. Or it may match but contain something that this program does not write: then somebody has forged
both the file and its record, and nothing in that place can be trusted.

`torch.load(weights_only=True)` runs no code, but some harmless names that it allows turn a few bytes into
gigabytes. Checking the file beforehand does not help: a different reader sees a different file (PyTorch takes
DATA.PKL for data.pkl). So the file is read here, by a reader that can create only what the file holds
(unpickling, tensors), and only if the file is no larger than expected.
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

#: Room in a file besides its tensors' values: names, figures of a thousand epochs, the archive itself.
_BESIDE_THE_VALUES = 16 * 1024 * 1024


class CorruptFile(ValueError):
    """A file is not the one that was written."""


def to_bytes(state: Mapping[str, Any]) -> bytes:
    """Return `state` as torch.save writes it; in memory, so that a full disk is an OSError of the write."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def model_to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Return model.pt for a model with this state; the same state always gives the same bytes."""
    return to_bytes({name: tensor.cpu().contiguous() for name, tensor in state.items()})


def room_for(tensors: Iterable[Tensor], copies: int = 1) -> int:
    """Return the most bytes that a file with `copies` of these tensors may have."""
    return copies * sum(tensor.nbytes for tensor in tensors) + _BESIDE_THE_VALUES


def load_verified(path: Path, digest: FileDigest, limit: int) -> dict[str, Any]:
    """Load tensors (on the CPU) and plain values from the file with this digest.

    Raises OSError, CorruptFile, UntrustedFile.

    limit: most bytes to read, whatever the digest says: a sparse file takes no room on the volume but its
    full size in memory. Exactly the bytes that are read are hashed.
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
    """Return the dict in a PyTorch or safetensors file. Raises UntrustedFile.

    It takes at most a few times the size of `content` in memory.
    """
    try:
        state = _reader_of(content)(content)
    except (UntrustedFile, StageError):  # SIGTERM may arrive anywhere and is not the file's fault
        raise
    except Exception as error:  # a foreign file may cause any error
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

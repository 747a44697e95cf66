"""State as the bytes of a file and back: bytes that are not this program's own are never believed.

Two things can be wrong with a file of weights. It may not be the one that its record tells of: it is
damaged, and an older one may do. Or it may be that very one and hold what this program does not write:
then somebody has made it, and its record too, and nothing in that place can be trusted.

`torch.load(weights_only=True)` runs no code, but some harmless names that it allows make gigabytes out
of a few bytes, and so does a compressed archive. So what the file is made of is looked at first.
"""

from __future__ import annotations

import hashlib
import io
import pickletools
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from jobs.contract.record import FileProof
from jobs.errors import StageError

#: Of the part that is not tensors: names, and a few figures an epoch. After 1000 epochs ours have some
#: 70 KB of 17,000 operations, each of which takes a microsecond and may make an object.
_PICKLE_BYTES: Final = 4 * 1024 * 1024
_PICKLE_OPERATIONS: Final = 200_000
#: What torch.save writes for dicts of tensors and numbers, and all that is needed to read them.
_KNOWN: Final = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
    | {f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Byte")}
)


class NotWhole(ValueError):
    """A file is not the one that was written."""


class Foreign(ValueError):
    """A file is the one that is recorded, but this program has not written it."""


def to_bytes(state: Mapping[str, Any]) -> bytes:
    """`state` as torch.save writes it; in memory, so that a full disk is an OSError of the writing."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def load_verified(path: Path, proof: FileProof) -> dict[str, Any]:
    """Tensors (on the CPU) and plain values from the file of this proof. Raises OSError, NotWhole, Foreign.

    The hash is of the very bytes that are unpickled.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size != proof.bytes:  # before a byte of it is read
        raise NotWhole(f"it has {found.st_size:,} bytes, {proof.bytes:,} are expected; it is damaged")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != proof.sha256:
        raise NotWhole(
            f"its SHA-256 is {sha256[:12]}…, {proof.sha256[:12]}… is expected; it is damaged or another file"
        )
    _inspect(content)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except StageError:  # SIGTERM, which may come anywhere, is no fault of the file's
        raise
    except Exception as error:  # whatever a file of somebody else's may provoke
        raise Foreign(f"it cannot be loaded: {one_line(error)}") from error
    if not isinstance(state, dict):
        raise Foreign(f"it holds a {type(state).__name__}, not a dict")
    _require_tensors_with_values(state)
    return state


def _inspect(content: bytes) -> None:
    """Raise Foreign unless the file is built as torch.save builds it and unpacks to its own size."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > len(content):
                raise Foreign("it unpacks to more than its own size")
            (program,) = (member for member in members if member.filename.endswith("/data.pkl"))
            if program.file_size > _PICKLE_BYTES:
                raise Foreign(f"its pickle has {program.file_size:,} bytes")
            _inspect_pickle(archive.read(program))
    except (Foreign, StageError):
        raise
    except Exception as error:  # zipfile and pickletools raise much that they do not promise
        raise Foreign(f"it is not built as PyTorch builds files: {one_line(error)}") from error


def _inspect_pickle(program: bytes) -> None:
    tuples = set()
    before = ""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(program)):
        if number == _PICKLE_OPERATIONS:
            raise Foreign(f"its pickle has more than {number:,} operations")
        name = opcode.name
        if name in ("INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4") or (
            name == "GLOBAL" and argument not in _KNOWN
        ):
            raise Foreign(f"it names {str(argument or name).replace(' ', '.')}")
        # A tuple of twice the one before, thirty times over, keeps a dict busy hashing it for minutes.
        if name.endswith("PUT") and before.startswith("TUPLE"):
            tuples.add(argument)
        if name.endswith("GET") and argument in tuples:
            raise Foreign("it uses a tuple twice")
        before = name


def _require_tensors_with_values(state: dict[str, Any]) -> None:
    """Raise Foreign for a tensor that claims more elements than the file holds for it."""
    seen: set[int] = set()
    left: list[Any] = [state]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise Foreign(f"a tensor of {value.numel():,} elements has not as many values")
        elif isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value


def one_line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]

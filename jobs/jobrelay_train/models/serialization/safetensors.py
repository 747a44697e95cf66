"""The safetensors format: https://github.com/huggingface/safetensors#format

Eight bytes with the length of a JSON header, the header, and the values. For each name, the header has a
type, a shape, and the position of the values, counted from the end of the header. It is read here, with the
same bounds as PyTorch's own format, because the library maps the file, which could still be changed.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any, Final

import torch
from torch import Tensor

from jobrelay_train.models.serialization.tensors import Source, UntrustedFile

#: The library itself takes up to 100 MB; a network of a thousand layers has some 300 KB.
_HEADER_BYTES: Final = 4 * 1024 * 1024
_TYPES: Final = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "U16": torch.uint16,
    "I32": torch.int32, "U32": torch.uint32, "I64": torch.int64, "U64": torch.uint64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip


def looks_like_it(content: bytes) -> bool:
    """Whether the content starts like a safetensors file."""
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content) - 8


def from_safetensors(content: bytes) -> dict[str, Tensor]:
    """Return the tensors by name. Raises UntrustedFile, and what json raises."""
    (length,) = struct.unpack_from("<Q", content)
    if length > _HEADER_BYTES:
        raise UntrustedFile(f"its header has {length:,} bytes")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    source = Source(content)
    return {
        name: _tensor(source, 8 + length, **entry) for name, entry in header.items() if name != "__metadata__"
    }


def _tensor(source: Source, first: int, dtype: str, shape: list[Any], data_offsets: list[Any]) -> Tensor:
    begin, end = data_offsets
    if dtype not in _TYPES:
        raise UntrustedFile(f"it has values of type {dtype}")
    kind, count = _TYPES[dtype], math.prod(shape)
    if end - begin != count * kind.itemsize:
        raise UntrustedFile(f"a tensor of {count:,} elements has not as many values")
    return source.values(kind, count, first + begin).view(shape)

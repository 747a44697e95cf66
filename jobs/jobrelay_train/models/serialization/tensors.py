"""Tensors from the bytes of an untrusted file, never larger than what the file holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class UntrustedFile(ValueError):
    """A file contains something that this program does not accept; none of it is used."""


class Source:
    """The bytes of one file. Tensors made from them are copies, and no larger than the bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._reserved = 0
        self._claimed = 0

    def reserve(self, dtype: torch.dtype, count: Any) -> Tensor:
        """Allocate `count` uninitialised values, to be filled later. Raises UntrustedFile."""
        size = _whole(count) * dtype.itemsize
        self._reserved += size
        if self._reserved > len(self.content):
            raise UntrustedFile(f"it claims to hold {self._reserved:,} bytes of values, more than it has")
        return torch.empty(size, dtype=torch.uint8).view(dtype)

    def fill(self, values: Tensor, start: int) -> None:
        """Copy the bytes at `start` into one-dimensional values. Raises UntrustedFile."""
        if start < 0 or start + values.nbytes > len(self.content):
            raise UntrustedFile("it is shorter than the values that it claims to hold")
        if values.nbytes:
            values.view(torch.uint8).numpy()[:] = np.frombuffer(self.content, np.uint8, values.nbytes, start)

    def values(self, dtype: torch.dtype, count: Any, start: int) -> Tensor:
        """Return `count` values that start at byte `start`. Raises UntrustedFile."""
        values = self.reserve(dtype, count)
        self.fill(values, start)
        return values

    def view(self, values: Tensor, offset: Any, size: Sequence[Any], stride: Sequence[Any]) -> Tensor:
        """Return a tensor of this size over some of these values. Raises UntrustedFile.

        It has at most as many elements as there are values, and all tensors of a file together have at most
        two for each byte of it: two layers may share their weights, but ten thousand may not.
        """
        if len(size) != len(stride):
            raise UntrustedFile(f"a tensor of {len(size)} dimensions has {len(stride)} strides")
        sizes, strides = [_whole(number) for number in size], [_whole(number) for number in stride]
        count = math.prod(sizes)
        reach = _whole(offset)
        if count:
            reach += 1 + sum((length - 1) * step for length, step in zip(sizes, strides, strict=True))
        self._claimed += count * values.element_size()
        if max(count, reach) > values.numel() or self._claimed > 2 * len(self.content):
            raise UntrustedFile(f"a tensor of {count:,} elements has not as many values")
        return values.as_strided(sizes, strides, offset)


def _whole(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 1 << 62:
        raise UntrustedFile("a size in it is not a size")
    return number

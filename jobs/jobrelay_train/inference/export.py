"""The model as a stand-alone program: model.pt2, which PyTorch runs without JobRelay's code.

It takes pixels as stored, uint8 (N, C, H, W) for any N, or points, float32 (N, 2), and returns the
log-probability of each class, float32 (N, classes); the normalisation is included:

    torch.export.load("model.pt2").module()(images)
"""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobrelay_runner.errors import Failed
from jobrelay_runner.volume.record import FileDigest
from jobrelay_runner.volume.safe_read import read_bytes
from jobrelay_train.data.split import Images
from jobrelay_train.models.predict import predict
from jobrelay_train.models.registry import ModelSpec, normalise
from jobrelay_train.models.serialization.weights import CorruptFile

#: More than the rounding error from a different order of summation.
_TOLERANCE: Final = 1e-4
#: Test images to compare, in batches of these sizes, which checks that the first dimension is free.
_COMPARED: Final = 1000
_BATCHES: Final = (1, 7, 500)


class _Classifier(nn.Module):
    """Maps stored pixels to log-probabilities."""

    def __init__(self, model: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.model = model
        self._spec = spec

    def forward(self, images: Tensor) -> Tensor:
        return F.log_softmax(self.model(normalise(images, self._spec)), dim=1)


def export(model: nn.Module, spec: ModelSpec) -> bytes:
    """Return the content of model.pt2."""
    # a copy on the CPU in the standard memory layout, without the layout that makes the model fast here
    plain = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    classifier = _Classifier(plain, spec).eval()
    example = torch.zeros(2, *spec.input_shape, dtype=spec.dtype)  # a 1 would be taken as fixed
    program = torch.export.export(
        classifier, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def load_exported(path: Path, digest: FileDigest) -> Callable[[Tensor], Tensor]:
    """Load the program in model.pt2. Raises OSError; CorruptFile before it parses any other file."""
    content = read_bytes(path, digest.bytes)
    if hashlib.sha256(content).hexdigest() != digest.sha256:
        raise CorruptFile(f"{path} is not the file that was exported")
    program: Callable[[Tensor], Tensor] = torch.export.load(io.BytesIO(content)).module()
    return program


@dataclass(frozen=True)
class Parity:
    """How the exported program compares with its original model."""

    images: int
    largest_difference: float


def compare(program: Callable[[Tensor], Tensor], model: nn.Module, spec: ModelSpec, images: Images) -> Parity:
    """Run both on real images, uint8 (N, C, H, W).

    Raises Failed if they differ by more than rounding, or in the class.
    """
    images = images[:_COMPARED]
    expected = predict(model, spec, images, torch.device("cpu"))
    parts, start = [], 0
    sizes = iter(_BATCHES)
    with torch.inference_mode():
        while start < len(images):
            batch = images[start : start + next(sizes, _BATCHES[-1])]
            parts.append(program(batch))
            start += len(batch)
    found, expected = torch.cat(parts).exp(), expected.exp()
    largest = (found - expected).abs().max().item()
    of_its_class = found.gather(1, expected.argmax(1, keepdim=True))  # (N, 1)
    others = int((found.amax(1, keepdim=True) - of_its_class > _TOLERANCE).sum())
    if others or not largest <= _TOLERANCE:
        raise Failed(
            f"the exported model differs from the model: of {len(images):,} images it puts {others:,} into "
            f"another class, and probabilities differ by up to {largest:.1e}"
        )
    return Parity(len(images), largest)

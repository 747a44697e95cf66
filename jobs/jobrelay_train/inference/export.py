"""The model as a program of its own: model.pt2, which PyTorch runs without any code from here.

It takes pixels as they are stored, uint8 (N, C, H, W) for any N, or points, float32 (N, 2), and gives
the log-probability of each class, float32 (N, classes); the normalisation of the training is inside:

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

#: More than rounding makes of the order in which sums are taken.
_TOLERANCE: Final = 1e-4
#: Of the test images; in batches of these sizes, so that the first dimension is seen to be free.
_COMPARED: Final = 1000
_BATCHES: Final = (1, 7, 500)


class _Classifier(nn.Module):
    """From stored pixels to log-probabilities."""

    def __init__(self, model: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.model = model
        self._spec = spec

    def forward(self, images: Tensor) -> Tensor:
        return F.log_softmax(self.model(normalise(images, self._spec)), dim=1)


def export(model: nn.Module, spec: ModelSpec) -> bytes:
    """The content of model.pt2."""
    # its own copy on the CPU, laid out as the format has it, whatever the model here is made fast with
    plain = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    classifier = _Classifier(plain, spec).eval()
    example = torch.zeros(2, *spec.input_shape, dtype=spec.dtype)  # of one, the 1 would count as fixed
    program = torch.export.export(
        classifier, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def load_exported(path: Path, digest: FileDigest) -> Callable[[Tensor], Tensor]:
    """The program in model.pt2. Raises OSError; CorruptFile before a byte of another file is believed."""
    content = read_bytes(path, digest.bytes)
    if hashlib.sha256(content).hexdigest() != digest.sha256:
        raise CorruptFile(f"{path} is not the file that was exported")
    program: Callable[[Tensor], Tensor] = torch.export.load(io.BytesIO(content)).module()
    return program


@dataclass(frozen=True)
class Parity:
    """How the exported program compares with the model that it was made from."""

    images: int
    largest_difference: float


def compare(program: Callable[[Tensor], Tensor], model: nn.Module, spec: ModelSpec, images: Images) -> Parity:
    """Run both over real images, uint8 (N, C, H, W).

    Raises Failed where they differ by more than rounding, or in the class.
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

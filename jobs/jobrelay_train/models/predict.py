"""What a model says about images: shared by eval, infer and the digest of an export."""

from __future__ import annotations

import math
import time
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobrelay_runner.errors import BadEvidence
from jobrelay_runner.usage.timeline import mark
from jobrelay_train.data.split import Images
from jobrelay_train.models.auto_batch import GrowingBatch
from jobrelay_train.models.registry import ModelSpec, channels_last, normalise

#: Log-probabilities of one image in batches of different sizes differ by rounding, some 1e-6 on a CPU.
#: Two best classes that are closer than this are told apart by a look at the image alone.
_NEAR: Final = 1e-3
#: Of a batch on a CPU, where more is no faster: 340 images of 3 x 64 x 64 take some 300 MiB on their way
#: through efficientnet_b0, and 1000 three times as much.
_VALUES: Final = 1 << 22


def predict(
    model: nn.Module,
    spec: ModelSpec,
    images: Images,
    device: torch.device,
    batch_size: int | GrowingBatch = 1000,
) -> Tensor:
    """Log-probability of every class for every image.

    images: uint8 (N, C, H, W), as stored; they are normalised here, a batch at a time. Returns
    float32 (N, classes) on the CPU; the exponentials of a row sum to 1. Up to rounding it is the same
    whatever the batches, and the most probable class is the same exactly; large images come in smaller
    ones than was asked for. Raises BadEvidence if the images are not of the shape that the model was
    trained for.
    """
    if tuple(images.shape[1:]) != spec.input_shape:
        raise BadEvidence(
            f"the model takes images of {spec.input_shape}, these are {tuple(images.shape[1:])}"
        )
    if isinstance(batch_size, int) and device.type == "cpu":
        batch_size = min(batch_size, max(1, _VALUES // math.prod(spec.input_shape)))
    channels_last(model.to(device)).eval()
    parts = []
    with torch.inference_mode():  # not around the lines above: it would make the weights unfit for training
        mark("first_batch")
        start = 0
        while start < len(images):
            began = time.perf_counter()
            size = batch_size if isinstance(batch_size, int) else batch_size.size
            batch = images[start : start + size]
            parts.append(_log_probabilities(model, spec, batch, device))
            if isinstance(batch_size, GrowingBatch):
                batch_size.took(len(batch), time.perf_counter() - began)
            start += len(batch)
        found = torch.cat(parts)
        best = found.topk(2, dim=1).values  # (N, 2)
        for index in (best[:, 0] - best[:, 1] < _NEAR).nonzero().flatten().tolist():
            found[index] = _log_probabilities(model, spec, images[index : index + 1], device)[0]
    return found


def _log_probabilities(model: nn.Module, spec: ModelSpec, images: Tensor, device: torch.device) -> Tensor:
    return F.log_softmax(model(normalise(images.to(device), spec)), dim=1).cpu()

"""A model's predictions for images: shared by eval, infer and the comparison of an export."""

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
#: If the two best classes are closer than this, the image is classified again in a batch of its own.
_NEAR: Final = 1e-3
#: Most values of a batch on a CPU, where more is not faster: 340 images of 3 x 64 x 64 take some 300 MiB in
#: efficientnet_b0, and 1000 images three times as much.
_VALUES: Final = 1 << 22


def predict(
    model: nn.Module,
    spec: ModelSpec,
    images: Images,
    device: torch.device,
    batch_size: int | GrowingBatch = 1000,
) -> Tensor:
    """Return the log-probability of every class for every image.

    images: as stored, uint8 (N, C, H, W) or of the type of `spec`; they are normalised here, one batch at a
    time. Returns float32 (N, classes) on the CPU; the exponentials of a row sum to 1. The batch size changes
    the result only by rounding and never changes the most probable class; large images use smaller batches
    than `batch_size`. Raises BadEvidence if the images do not have the shape that the model was trained for.
    """
    if tuple(images.shape[1:]) != spec.input_shape:
        raise BadEvidence(
            f"the model takes images of {spec.input_shape}, these are {tuple(images.shape[1:])}"
        )
    if isinstance(batch_size, int) and device.type == "cpu":
        batch_size = min(batch_size, max(1, _VALUES // math.prod(spec.input_shape)))
    channels_last(model.to(device), spec).eval()
    parts = []
    with torch.inference_mode():  # not around the lines above: the weights could not be trained any more
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
    return F.log_softmax(model(normalise(images.to(device), spec)).float(), dim=1).cpu()

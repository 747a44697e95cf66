"""What a model says about images: shared by eval and infer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobs.errors import BadEvidence
from jobs.models import ModelSpec, channels_last, normalise
from jobs.moments import passed


def predict(
    model: nn.Module, spec: ModelSpec, images: Tensor, device: torch.device, batch_size: int = 1000
) -> Tensor:
    """Log-probability of every class for every image.

    images: uint8 (N, C, H, W), as stored; they are normalised here, a batch at a time. Returns
    float32 (N, classes) on the CPU; the exponentials of a row sum to 1. Raises BadEvidence if the
    images are not of the shape that the model was trained for.
    """
    if tuple(images.shape[1:]) != spec.input_shape:
        raise BadEvidence(
            f"the model takes images of {spec.input_shape}, these are {tuple(images.shape[1:])}"
        )
    channels_last(model.to(device)).eval()
    parts = []
    with torch.inference_mode():  # not around the lines above: it would make the weights unfit for training
        passed("first_batch")
        for start in range(0, len(images), batch_size):
            pixels = normalise(images[start : start + batch_size].to(device), spec)
            parts.append(F.log_softmax(model(pixels), dim=1).cpu())
    return torch.cat(parts)

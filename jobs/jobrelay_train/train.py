"""train: data, model, loop, weights.

Writes model.pt and model.json, history.jsonl, config.yaml and checkpoints/. After an interruption at any
moment, it resumes from the newest intact checkpoint. With one process on a CPU it ends with exactly the
weights of an uninterrupted training: the order and augmentation of the images depend only on seed and epoch,
the learning rate on the step, and precision and torch's generator are in the checkpoint.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from jobrelay_runner.context import StageResult
from jobrelay_runner.signals import StopRequest
from jobrelay_train import compute
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data.registry import describe, load
from jobrelay_train.data.split import Images, Split
from jobrelay_train.models.pretrained import MEAN, STD, read_weights
from jobrelay_train.models.registry import ModelSpec
from jobrelay_train.program import Context
from jobrelay_train.training import strategies
from jobrelay_train.training.loop import fit
from jobrelay_train.training.state import TrainInputs, settings_that_stay

_AT_ONCE: Final = 4096


def train(context: Context, stop: StopRequest) -> StageResult:
    """Train the configured model on the configured data, for the configured number of epochs."""
    config = context.config
    compute.seed(config)
    if config.train.strategy != "single":
        compute.stay_forkable()
    data = load(config, "train", context.folder.root).held_out(
        config.train.validation_split, compute.generator(config.seed, "validation")
    )
    weights, weights_file = read_weights(config.model, context.folder.root)
    validation = data.validation.files if data.validation else {}
    files = context.named({**data.files, **validation, **weights_file})
    inputs = TrainInputs(data, describe_model(config, data), settings_that_stay(config, files), weights)
    run = strategies.runner(config.train.strategy)
    result = run(context, inputs.spec, functools.partial(fit, context, inputs, stop), stop)
    return replace(result, inputs=files, skipped=dict(data.skipped))


def describe_model(config: RunConfig, data: Split) -> ModelSpec:
    """Describe the model for this data, with mean and deviation of the data or of the weights' own data."""
    if len(data.images.shape) == 2:
        mean, std = _of_coordinates(data.images[:])
    else:
        mean, std = (MEAN, STD) if config.model.weights else _of_channels(data.images)
    return ModelSpec(
        name=config.model.name,
        input_shape=tuple(data.images.shape[1:]),  # type: ignore[arg-type]  # three for an image, one for a point
        class_names=data.class_names,
        mean=mean[0] if len(mean) == 1 else mean,
        std=std[0] if len(std) == 1 else std,
        dataset=describe(config.data),
    )


def _of_channels(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of all pixels, black 0, white 1: one figure per channel."""
    channels = images.shape[1]
    # Exact, and without a float copy of all pixels: there are only 256 values.
    counts = torch.zeros(channels, 256, dtype=torch.float64)
    for start in range(0, len(images), _AT_ONCE):
        some = images[start : start + _AT_ONCE]
        for channel in range(channels):
            counts[channel] += torch.bincount(some[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return (
        tuple(round(value, 6) for value in mean.tolist()),
        tuple(max(round(value, 6), 1e-6) for value in variance.sqrt().tolist()),  # 0 for a single colour
    )


def _of_coordinates(points: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of all coordinates of points (N, 2) together."""
    values = points.double()
    return (round(values.mean().item(), 6),), (round(values.std(correction=0).item(), 6),)

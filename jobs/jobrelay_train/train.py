"""train: data, model, loop, weights.

Writes model.pt and model.json, history.jsonl, config.yaml and checkpoints/. After an interruption at any
moment, it resumes from the newest intact checkpoint. With one process on a CPU it ends with exactly the
weights of an uninterrupted training: the order and augmentation of the images depend only on seed and epoch,
the learning rate on the step, and precision and torch's generator are in the checkpoint.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Final, Literal

import torch
from torch import Tensor

from jobrelay_runner.context import StageResult
from jobrelay_runner.errors import BadInput
from jobrelay_runner.signals import StopRequest
from jobrelay_train import compute
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data.items import Items
from jobrelay_train.data.registry import describe, load
from jobrelay_train.data.split import Images, Split
from jobrelay_train.models.pretrained import MEAN, STD, read_weights
from jobrelay_train.models.registry import ModelSpec
from jobrelay_train.own.functions import find
from jobrelay_train.program import Context
from jobrelay_train.training import strategies
from jobrelay_train.training.loop import fit
from jobrelay_train.training.state import TrainInputs, settings_that_stay

_AT_ONCE: Final = 4096
#: Images that a data set of the user's own is judged by, if it is too large to be read beforehand.
_SAMPLE: Final = 2048
_OWN_TYPES: Final[dict[torch.dtype, Literal["uint8", "float32", "int64"]]] = {
    torch.uint8: "uint8",
    torch.float32: "float32",
    torch.int64: "int64",
}


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
    spec = describe_model(config, data)
    check_functions(config, spec)
    inputs = TrainInputs(data, spec, settings_that_stay(config, files, data.content), weights)
    run = strategies.runner(config.train.strategy)
    result = run(context, inputs.spec, functools.partial(fit, context, inputs, stop), stop)
    return replace(result, inputs=files, skipped=dict(data.skipped))


def check_functions(config: RunConfig, spec: ModelSpec) -> None:
    """Check what is not used before the end of the training, or not at all. Raises BadInput."""
    for key, name in config.own_functions.items():
        find(key, name)
    if config.eval.metrics:
        find("eval.metrics", config.eval.metrics).require("scores", "labels")
    if not config.data.is_own:
        return
    if config.train.horizontal_flip is True and len(spec.input_shape) != 3:
        raise BadInput(
            f"train.horizontal_flip is for images, and {config.data.name} returns {spec.input_shape}"
        )
    if config.infer.folder and (spec.things != "images" or spec.dtype != torch.uint8):
        raise BadInput(
            f"infer.source: {config.infer.folder}: files can only be classified by a model of pixels, uint8 "
            f"(C, H, W), and {config.data.name} returns {spec.dtype} {spec.input_shape}"
        )


def describe_model(config: RunConfig, data: Split) -> ModelSpec:
    """Describe the model for this data, with mean and deviation of the data or of the weights' own data."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind = _OWN_TYPES[data.images.dtype] if config.data.is_own else None
    if kind in ("float32", "int64"):
        mean, std = (0.0,), (1.0,)
    elif len(data.images.shape) == 2:
        mean, std = _of_coordinates(data.images[:])
    else:
        mean, std = (MEAN, STD) if config.model.weights else _of_channels(data.images)
    return ModelSpec(
        name=config.model.name,
        code=config.code if config.model.is_own else None,
        input_shape=tuple(data.images.shape[1:]),
        input_type=kind,
        class_names=data.class_names,
        mean=mean[0] if len(mean) == 1 else mean,
        std=std[0] if len(std) == 1 else std,
        dataset=describe(config.data),
    )


def _of_channels(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of all pixels, black 0, white 1: one figure per channel."""
    if isinstance(images, Items):  # a sample of them, evenly spaced
        images = images.chosen(torch.linspace(0, len(images) - 1, min(len(images), _SAMPLE)).long())[:]
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

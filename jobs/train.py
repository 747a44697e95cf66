"""train: data, model, loop, weights.

Writes model.pt and model.json, history.jsonl, config.yaml and checkpoints/. Interrupted at any
moment, it goes on from the newest whole checkpoint. By one process on a CPU it ends with the very
weights it would have had undisturbed: the order of the images and how they are varied depend on seed
and epoch alone, the learning rate on the step, and precision and torch's generator are in the checkpoint.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from jobs import compute, strategies
from jobs.assignment import Assignment, Outcome
from jobs.contract.config import RunConfig
from jobs.data import DESCRIPTIONS, Split, load
from jobs.models import ModelSpec
from jobs.progress import settings_that_stay
from jobs.stopping import StopRequest
from jobs.training import Training


def train(assignment: Assignment, stop: StopRequest) -> Outcome:
    """Train the configured model on the configured data, for the configured number of epochs."""
    config = assignment.config
    compute.seed(config)
    if config.train.strategy != "single":
        compute.stay_forkable()
    data = load(config.data, "train", assignment.folder.root, config.seed)
    inputs = assignment.prove(*data.files)
    training = Training(
        assignment, data, describe_model(config, data), settings_that_stay(config, inputs), stop
    )
    return replace(strategies.run(training), inputs=inputs)


def describe_model(config: RunConfig, data: Split) -> ModelSpec:
    """The model that fits the data, with the mean and deviation of its pixels or coordinates."""
    mean, std = _pixels(data.images) if data.images.dtype == torch.uint8 else _coordinates(data.images)
    return ModelSpec(
        name=config.model.name,
        input_shape=tuple(data.images.shape[1:]),  # type: ignore[arg-type]  # three of an image, one of a point
        class_names=DESCRIPTIONS[config.data.name].class_names,
        mean=round(mean, 6),
        std=max(round(std, 6), 1e-6),  # images of one grey have none
        dataset=config.data.name,
    )


def _pixels(images: Tensor) -> tuple[float, float]:
    """Mean and deviation, exact and without a float copy of all pixels: there are only 256 values."""
    counts = torch.bincount(images.flatten(), minlength=256).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * values).sum() / counts.sum()
    variance = (counts * (values - mean) ** 2).sum() / counts.sum()
    return mean.item(), variance.sqrt().item()


def _coordinates(points: Tensor) -> tuple[float, float]:
    return points.double().mean().item(), points.double().std(correction=0).item()

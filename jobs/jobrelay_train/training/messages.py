"""What a training prints, and what it records about its means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from jobrelay_runner.text.counting import counted, rate
from jobrelay_runner.usage.cgroup import usable_cpus
from jobrelay_train import compute
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.training.state import TrainInputs, TrainState


def announce(
    config: RunConfig,
    inputs: TrainInputs,
    state: TrainState,
    device: torch.device,
    replicas: int,
    notes: Sequence[str],
) -> dict[str, str]:
    """Print what is trained, on what and by what means; return the means, for the record.

    notes: how the weights of a file were adapted.
    """
    train, data, spec = config.train, inputs.data, inputs.spec
    means = {"device": compute.describe(device, replicas), "precision": state.precision}
    if replicas > 1:
        means["batches"] = f"batches in {replicas} parts"
    if train.strategy != "single":
        means["strategy"] = f"{train.strategy} with {train.workers} processes"
    parameters = sum(parameter.numel() for parameter in state.model.parameters())
    print(
        f"training {spec.name} ({parameters:,} parameters) on {len(data):,} {spec.things} of {spec.dataset}: "
        f"{counted(train.epochs, 'epoch')} of {counted(math.ceil(len(data) / train.batch_size), 'step')}, "
        + ", ".join(means.values()),
        flush=True,
    )
    if train.validation_split and data.validation:
        held_out = counted(len(data.validation), spec.things.removesuffix("s"))
        print(f"held out to validate every epoch: {held_out}", flush=True)
    for note in notes:
        print(f"weights of {config.model.weights}: {note}", flush=True)
    warnings = list(_warnings(config, inputs, device))
    for warning in warnings:
        print(f"warning: {warning}", flush=True)
    if notes:
        means["weights"] = "; ".join(notes)
    if warnings:
        means["warnings"] = "; ".join(warnings)
    return means


def _warnings(config: RunConfig, inputs: TrainInputs, device: torch.device) -> Iterator[str]:
    train = config.train
    if device.type == "cpu" and train.processes_a_node > usable_cpus():
        yield (
            f"{train.processes_a_node} processes share {counted(usable_cpus(), 'CPU')} and will wait "
            f"for each other; --set train.processes={usable_cpus()} is faster"
        )
    if train.batch_size > len(inputs.data):
        yield (
            f"a batch of {train.batch_size:,} is larger than the data ({len(inputs.data):,} "
            f"{inputs.spec.things}): every epoch is one step; a smaller --set train.batch_size learns "
            "more in the same time"
        )


def tell(row: Mapping[str, float], epochs: int, things: str = "images") -> str:
    """Return the log line of one epoch; jobrelay_runner.text.outlook parses it."""
    validated = f"val acc {row['val_accuracy']:.4f}  " if "val_accuracy" in row else ""
    return (
        f"epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  acc {row['accuracy']:.4f}  {validated}"
        f"{row['seconds']:.1f} s  {rate(row['images_per_second'], things)}  lr {row['learning_rate']:.4f}"
    )

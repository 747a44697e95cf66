"""The optimisers: how gradients become a step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import nn
from torch.optim import SGD, Adadelta, AdamW, Optimizer

from jobs.contract.config import TrainConfig

_MOMENTUM: Final = 0.9


def optimizer(train: TrainConfig, parameters: Iterable[nn.Parameter], device: torch.device) -> Optimizer:
    """The configured one, for these parameters; what it remembers is on the device they are on."""
    rates = {"lr": train.learning_rate, "weight_decay": train.weight_decay}
    fused = device.type in ("cpu", "cuda")
    if train.optimizer == "adadelta":
        return Adadelta(parameters, **rates)
    if train.optimizer == "sgd":
        return SGD(parameters, momentum=_MOMENTUM, fused=fused, **rates)
    return AdamW(parameters, fused=fused, **rates)


def make_moments(optimizer: Optimizer) -> None:
    """Make what the first step makes beside the weights, all zeros, where there is nothing yet.

    Otherwise each of several processes that share the weights would make its own.
    """
    fresh = [p for group in optimizer.param_groups for p in group["params"] if not optimizer.state[p]]
    rates = [group["lr"] for group in optimizer.param_groups]
    for parameter in fresh:
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the weights stay
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for parameter in fresh:
        for moment in optimizer.state[parameter].values():
            moment.zero_()
    optimizer.zero_grad()

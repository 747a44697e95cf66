"""The optimisers: how gradients become a step."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Final, TypeVar

import torch
from torch import nn
from torch.optim import SGD, Adadelta, AdamW, Optimizer

from jobrelay_train.config.schema import TrainConfig

_MOMENTUM: Final = 0.9

#: What PyTorch wraps so that its compiler leaves it alone. The wrappers import that compiler.
_WRAPPED: Final = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
_Kind = TypeVar("_Kind", bound=Optimizer)


def _uncompiled(kind: type[_Kind]) -> type[_Kind]:
    """The same without torch._dynamo, which only torch.compile needs.

    Importing it costs a second and 70 MiB, and every training would do that before its first batch.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _WRAPPED}
    methods["step"] = torch.no_grad()(methods["step"])  # its wrapper did that, too
    return type(kind.__name__, (kind,), methods)


def build_optimizer(
    train: TrainConfig, parameters: Iterable[nn.Parameter], device: torch.device
) -> Optimizer:
    """The configured one, for these parameters; what it remembers is on the device they are on."""
    rate, decay, fused = train.learning_rate, train.weight_decay, device.type in ("cpu", "cuda")
    if train.optimizer == "adadelta":
        return _uncompiled(Adadelta)(parameters, lr=rate, weight_decay=decay)
    if train.optimizer == "sgd":
        return _uncompiled(SGD)(parameters, lr=rate, momentum=_MOMENTUM, weight_decay=decay, fused=fused)
    return _uncompiled(AdamW)(parameters, lr=rate, weight_decay=decay, fused=fused)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Of the next step, for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def init_optimizer_state(optimizer: Optimizer) -> None:
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

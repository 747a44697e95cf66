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

#: Methods that PyTorch wraps so that its compiler ignores them. The wrappers import that compiler.
_WRAPPED: Final = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
_Kind = TypeVar("_Kind", bound=Optimizer)


def _uncompiled(kind: type[_Kind]) -> type[_Kind]:
    """Return the optimiser without torch._dynamo, which only torch.compile needs.

    Importing that takes a second and 70 MiB, in every training before its first batch.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _WRAPPED}
    methods["step"] = torch.no_grad()(methods["step"])  # its wrapper did that, too
    return type(kind.__name__, (kind,), methods)


def build_optimizer(
    train: TrainConfig, parameters: Iterable[nn.Parameter], device: torch.device
) -> Optimizer:
    """Build the configured optimiser for these parameters; its state is on their device."""
    rate, decay, fused = train.learning_rate, train.weight_decay, device.type in ("cpu", "cuda")
    if train.optimizer == "adadelta":
        return _uncompiled(Adadelta)(parameters, lr=rate, weight_decay=decay)
    if train.optimizer == "sgd":
        return _uncompiled(SGD)(parameters, lr=rate, momentum=_MOMENTUM, weight_decay=decay, fused=fused)
    return _uncompiled(AdamW)(parameters, lr=rate, weight_decay=decay, fused=fused)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of the next step, for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def init_optimizer_state(optimizer: Optimizer) -> None:
    """Create the state that the first step would create, as zeros, for parameters that have none yet.

    Otherwise each of several processes that share the weights would create its own.
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

"""Networks and losses of the user's own, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobrelay_runner.errors import BadInput, one_line
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.config.values import is_own
from jobrelay_train.own.functions import OwnFunction, find

#: (scores float32 (N, classes), labels int64 (N,)) → the mean loss, a tensor with one value
Loss = Callable[[Tensor, Tensor], Tensor]


def build_own(name: str, classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Return what the function `name` returns for these classes and inputs. Raises BadInput."""
    function = find("model.name", name)
    function.require(num_classes=classes, input_shape=input_shape)
    model = function(num_classes=classes, input_shape=input_shape)
    if not isinstance(model, nn.Module):
        raise function.problem(f"it returned {type(model).__name__}, and a torch.nn.Module is expected")
    state = model.state_dict()
    if odd := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise function.problem(f"its state_dict has {odd[0]!r}, which is not a tensor and cannot be saved")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise function.problem("the module has no parameter that can be trained")
    return model


def loss_of(config: RunConfig) -> Loss:
    """Return the configured loss. Raises BadInput."""
    smoothing, name = config.train.label_smoothing, config.train.loss
    if name is None:
        return lambda scores, labels: F.cross_entropy(scores, labels, label_smoothing=smoothing)
    function = find("train.loss", name)
    function.require("scores", "labels")
    return cast(Loss, function.function)


def check_own(config: RunConfig, model: nn.Module, x: Tensor, y: Tensor, classes: int) -> None:
    """Check the network's scores, and the loss, on a few examples. Raises BadInput.

    x: normalised inputs (N, …). Nothing changes: neither the model's statistics nor the random numbers.
    """
    if not config.own_functions.keys() & {"model.name", "data.name", "train.loss"}:
        return
    training, cuda = model.training, [x.device] if x.device.type == "cuda" else []
    model.eval()
    with torch.random.fork_rng(devices=cuda):
        scores = _scores(config, model, x, classes)
        if config.train.loss:
            _check_loss(find("train.loss", config.train.loss), scores, y)
    model.train(training)


def _scores(config: RunConfig, model: nn.Module, x: Tensor, classes: int) -> Tensor:
    if not is_own(config.model.name):
        try:
            scores: Any = model(x)
        except RuntimeError as error:
            raise BadInput(
                f"model.name: {config.model.name} cannot take inputs of {tuple(x.shape[1:])}, which "
                f"{config.data.name} returns: {one_line(error)}"
            ) from error
    else:
        function = find("model.name", config.model.name)
        scores = function.guarded(f"the module, given inputs of {tuple(x.shape)},", model, x)
        what = f"given inputs of {tuple(x.shape)}, the module returned"
        expected = f"scores of ({len(x)}, {classes}), one for each class, are expected"
        if not isinstance(scores, Tensor):
            raise function.problem(f"{what} {_described(scores)}, and a tensor with {expected}")
        if not scores.is_floating_point():
            raise function.problem(f"{what} a tensor of {scores.dtype}, and {expected}")
    if tuple(scores.shape) != (len(x), classes):
        raise BadInput(
            f"model.name: {config.model.name}: given inputs of {tuple(x.shape)}, it returned "
            f"{tuple(scores.shape)}, and scores of ({len(x)}, {classes}), one for each class, are expected"
        )
    return cast(Tensor, scores.float())


def _check_loss(function: OwnFunction, scores: Tensor, y: Tensor) -> None:
    loss = function(scores, y)
    expected = "the mean loss of the batch is expected, a tensor with one value"
    if not isinstance(loss, Tensor):
        raise function.problem(f"it returned {_described(loss)}; {expected}")
    if loss.dim():
        raise function.problem(f"it returned a tensor of {tuple(loss.shape)}; {expected}: loss.mean()")
    if not loss.requires_grad:
        raise function.problem(f"its result does not depend on the scores; {expected}")


def _described(value: object) -> str:
    """Return what a function returned instead of a tensor."""
    return (
        f"{type(value).__name__} {str(value)[:40]!r}"
        if isinstance(value, int | float | str)
        else (f"a {type(value).__name__}")
    )

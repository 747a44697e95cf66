"""Initial weights of a torchvision model, from a file on the volume, and the layers that stay frozen.

The file holds a state_dict, as torchvision's files do, or in another common form: in a training checkpoint
(`state_dict`, `model` …), with the prefixes of a wrapper (`module.`, `_orig_mod.` …), as safetensors.
Its last layer may have other classes, such as ImageNet's thousand: if their number differs, that layer
starts with fresh weights. Any other mismatch is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from jobrelay_runner.errors import BadInput, passing_trouble
from jobrelay_runner.volume.record import FileDigest
from jobrelay_train.config.inputs import ModelConfig
from jobrelay_train.models.serialization.weights import CorruptFile, UntrustedFile, load_verified

#: Of ImageNet's pixels, on which torchvision's weights were trained: torchvision.transforms' documentation.
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
#: Everything except the backbone.
_HEADS: Final = {"resnet18": "fc", "mobilenet_v3_small": "classifier", "efficientnet_b0": "classifier"}
#: The largest of these models has 47 MB; a checkpoint also has the optimiser's state and averages.
_FILE_BYTES: Final = 512 * 1024 * 1024
#: Where the weights are in a training checkpoint; the first match counts. An average is the better model.
_NESTED: Final = (
    "state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model_state", "model",
    "weights", "params", "net", "network",
)  # fmt: skip
#: What DistributedDataParallel, torch.compile, Lightning and others put before every name.
_PREFIXES: Final = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
#: Files from PyTorch before 0.4.1 lack this batch counter, and PyTorch loads them without it.
_COUNTER: Final = ".num_batches_tracked"
#: The number of averaged models (torch.optim.swa_utils.AveragedModel), which is not part of the model.
_AVERAGED: Final = "n_averaged"
_MOST_NAMED: Final = 5


def read_weights(config: ModelConfig, volume: Path) -> tuple[dict[str, Any], dict[Path, FileDigest]]:
    """Read the state_dict in `model.weights`, and the digest of its file; both are empty if it is not set.

    Raises BadInput if the file is missing, does not match `model.weights_sha256`, or does not hold weights;
    Failed if the volume does not answer.
    """
    if config.weights is None:
        return {}, {}
    path = volume / config.weights
    try:
        found = path.resolve()
        if not found.is_relative_to((volume / "data").resolve()):
            raise BadInput(f"{path} leads out of the volume's data/")
        digest = FileDigest.of(found)
        if config.weights_sha256 not in (None, digest.sha256):
            raise BadInput(
                f"{path} is not the file that model.weights_sha256 names: its SHA-256 is {digest.sha256}"
            )
        return load_verified(found, digest, _FILE_BYTES), {path: digest}
    except OSError as error:
        raise passing_trouble(error, path) or BadInput(
            f"{path} cannot be read: {error.strerror}; put its folder on the volume as "
            f"data/{config.weights.split('/')[1]}"
        ) from error
    except (UntrustedFile, CorruptFile) as error:
        raise BadInput(
            f"{path} is not a file of weights that can be used: {error}. It must hold a state_dict, as "
            "torch.save(model.state_dict(), FILE) writes it, or be a safetensors file"
        ) from error


def load_pretrained(model: nn.Module, weights: Mapping[str, Any], config: ModelConfig) -> list[str]:
    """Load the weights into the model; return the adaptations that were needed, one phrase each.

    Raises BadInput naming the keys that do not fit.
    """
    own = model.state_dict()
    state, notes = _unwrapped(weights, own)
    # weight (classes, features) and bias (classes,) of the last layer
    head = [name for name in list(own)[-2:] if _is_of_other_classes(state.get(name), own[name])]
    if head:
        notes.append(f"its last layer has {len(state[head[0]]):,} classes and is replaced by a new one")
        state |= {name: own[name] for name in head}
    state = {name: own[name] for name in own if name.endswith(_COUNTER)} | state
    others = [
        name
        for name in own.keys() & state.keys()
        if not isinstance(state[name], Tensor) or state[name].shape != own[name].shape
    ]
    problems = [
        f"{what} {_named(names)}"
        for what, names in (
            ("it lacks", own.keys() - state.keys()),
            ("it has, and the model lacks,", state.keys() - own.keys()),
            ("of another shape:", others),
        )
        if names
    ]
    if problems:
        raise BadInput(f"{config.weights} does not fit {config.name}: {'; '.join(problems)}")
    model.load_state_dict(state)
    return notes


def _unwrapped(weights: Mapping[str, Any], own: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
    """Return the state_dict in a file's contents, and notes on what was unwrapped."""
    state, notes = dict(weights), []
    key = next((key for key in _NESTED if isinstance(state.get(key), dict)), None)
    if key is not None and not own.keys() & state.keys():
        others = _named(state.keys() - {key})
        notes.append(f"taken from {key!r} in it" + (f", without {others}" if others else ""))
        state = state[key]
    state = {name: value for name, value in state.items() if name != _AVERAGED}
    while prefix := _common_prefix(state, own):
        notes.append(f"without the prefix {prefix!r} of its names")
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state, notes


def _common_prefix(state: Mapping[Any, Any], own: Mapping[str, Tensor]) -> str | None:
    """Return a known prefix that every name has; None if some names are already the model's."""
    if own.keys() & state.keys() or not all(isinstance(name, str) for name in state):
        return None
    return next((prefix for prefix in _PREFIXES if state and all(n.startswith(prefix) for n in state)), None)


def _is_of_other_classes(value: Any, own: Tensor) -> bool:
    """Whether a tensor of the last layer differs only in the number of classes."""
    if not isinstance(value, Tensor) or value.dim() != own.dim():
        return False
    return value.shape[1:] == own.shape[1:] and len(value) != len(own)


def freeze_backbone(model: nn.Module, name: str) -> None:
    """Freeze everything except the head."""
    for child_name, child in model.named_children():
        if child_name != _HEADS[name]:
            child.requires_grad_(False)


def backbone(model: nn.Module, name: str) -> Iterable[nn.Module]:
    """The parts of a model before its head."""
    return (child for child_name, child in model.named_children() if child_name != _HEADS[name])


def _named(names: Iterable[str]) -> str:
    ordered = sorted(map(str, names))
    more = len(ordered) - _MOST_NAMED
    return ", ".join(islice(ordered, _MOST_NAMED)) + (f" and {more} more" if more > 0 else "")

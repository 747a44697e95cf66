"""Weights that a torchvision model begins with, from a file on the volume, and what of it stays as it is.

The file holds a state_dict, as torchvision's own do. Its last layer knows other classes, ImageNet's thousand
perhaps: where their number differs, that layer begins anew. Anything else that does not fit is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from jobs.contract.config import ModelConfig
from jobs.contract.record import FileProof
from jobs.errors import BadInput, passing_trouble
from jobs.weights import Foreign, NotWhole, load_verified

#: Of ImageNet's pixels, with which torchvision's weights were trained: torchvision.transforms' documentation.
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
#: All that is not the backbone.
_HEADS: Final = {"resnet18": "fc", "mobilenet_v3_small": "classifier", "efficientnet_b0": "classifier"}
#: The largest of these models has 47 MB.
_FILE_BYTES: Final = 1024**3
_MOST_NAMED: Final = 5


def read_weights(config: ModelConfig, volume: Path) -> tuple[dict[str, Any], dict[Path, FileProof]]:
    """The state_dict of `model.weights`, and the proof of its file; both empty if none is set.

    Raises BadInput if it is not there, not the one of `model.weights_sha256`, or no file of weights;
    Failed if the volume does not answer.
    """
    if config.weights is None:
        return {}, {}
    path = volume / config.weights
    try:
        if not path.resolve().is_relative_to((volume / "data").resolve()):
            raise BadInput(f"{path} leads out of the volume's data/")
        if (size := path.stat().st_size) > _FILE_BYTES:
            raise BadInput(
                f"{path} has {size:,} bytes; weights of {config.name} have less than {_FILE_BYTES:,}"
            )
        proof = FileProof.of(path)
        if config.weights_sha256 not in (None, proof.sha256):
            raise BadInput(
                f"{path} is not the file that model.weights_sha256 names: its SHA-256 is {proof.sha256}"
            )
        return load_verified(path, proof), {path: proof}
    except OSError as error:
        raise passing_trouble(error, path) or BadInput(
            f"{path} cannot be read: {error.strerror}; put the folder that has it on the volume as "
            f"data/{config.weights.split('/')[1]}"
        ) from error
    except (Foreign, NotWhole) as error:
        raise BadInput(
            f"{path} is no file of weights that can be taken: {error}. A state_dict is expected, as "
            "torch.save(model.state_dict(), FILE) of PyTorch 1.6 or newer writes it"
        ) from error


def begin_with(model: nn.Module, weights: Mapping[str, Any], config: ModelConfig) -> None:
    """Load the weights into the model. Raises BadInput naming the keys that do not fit."""
    own = model.state_dict()
    state = dict(weights)
    for name in list(own)[-2:]:  # weight (classes, features) and bias (classes,) of the last layer
        if isinstance(state.get(name), Tensor) and state[name].shape[1:] == own[name].shape[1:]:
            state[name] = own[name] if state[name].shape != own[name].shape else state[name]
    others = [
        name
        for name in own.keys() & state.keys()
        if not isinstance(state[name], Tensor) or state[name].shape != own[name].shape
    ]
    problems = [
        f"{what} {_named(names)}"
        for what, names in (
            ("it lacks", own.keys() - state.keys()),
            ("it has, and the model has not,", state.keys() - own.keys()),
            ("of another shape:", others),
        )
        if names
    ]
    if problems:
        raise BadInput(f"{config.weights} does not fit {config.name}: {'; '.join(problems)}")
    model.load_state_dict(state)


def freeze_backbone(model: nn.Module, name: str) -> None:
    """Let nothing but the head learn."""
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

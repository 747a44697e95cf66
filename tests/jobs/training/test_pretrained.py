"""Weights that a model begins with: what is taken, what is refused, and what of it learns."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from jobrelay_runner.errors import BadInput, Failed
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.volume.record import FileDigest
from jobrelay_train.config.inputs import ModelConfig
from jobrelay_train.data.split import Split
from jobrelay_train.distributed.shared_memory import SharedMemory
from jobrelay_train.distributed.threads import worth_it
from jobrelay_train.models.pretrained import load_pretrained, read_weights
from jobrelay_train.models.registry import ModelSpec, build
from jobrelay_train.training.loop import fit
from jobrelay_train.training.state import TrainInputs
from jobrelay_train.training.strategies import Strategy
from jobrelay_train.training.strategies.hogwild import Hogwild, Ledger
from jobrelay_train.training.strategies.single import Single
from tests.support.hostile import safetensors
from tests.support.volume import Place

NAMES = ("mobilenet_v3_small", "resnet18", "efficientnet_b0")


def _config(name: Any = "resnet18", **more: Any) -> ModelConfig:
    return ModelConfig(name=name, weights="data/w/x.pth", **more)


def _model(name: Any = "resnet18", classes: int = 5) -> nn.Module:
    return build(
        ModelSpec(
            name=name,
            input_shape=(3, 40, 40),
            class_names=tuple(map(str, range(classes))),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            dataset="data/clothes",
        )
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of a resnet18 of seven classes, on a volume."""
    path = tmp_path / "data" / "w" / "x.pth"
    path.parent.mkdir(parents=True)
    torch.save(_model(classes=7).state_dict(), path)
    return path


def _volume(file: Path) -> Path:
    return file.parents[2]


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_as_many_classes_are_taken_whole(name: str) -> None:
    weights, model = _model(name).state_dict(), _model(name)

    load_pretrained(model, weights, _config(name))

    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_of_other_classes_the_last_layer_begins_anew(name: str) -> None:
    weights, model = _model(name, classes=7).state_dict(), _model(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    *backbone, weight, bias = before

    load_pretrained(model, weights, _config(name))

    after = model.state_dict()
    assert all(torch.equal(after[key], weights[key]) for key in backbone)
    assert all(torch.equal(after[key], before[key]) for key in (weight, bias))


def _prefixed(prefix: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


def _of_2017(state: dict[str, Any]) -> dict[str, Any]:
    """As torchvision's first files are: Parameters, and no counters."""
    return {name: nn.Parameter(value) for name, value in state.items() if "num_batches" not in name}


#: What people have: how it is made of a plain state_dict, and what is reported of it.
AS_PEOPLE_HAVE_THEM: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], list[str]]] = [
    (_of_2017, []),
    (_prefixed("module."), ["without the prefix 'module.' of its names"]),
    (_prefixed("_orig_mod."), ["without the prefix '_orig_mod.' of its names"]),
    (_prefixed("model."), ["without the prefix 'model.' of its names"]),
    (
        _prefixed("_orig_mod.module."),
        ["without the prefix '_orig_mod.' of its names", "without the prefix 'module.' of its names"],
    ),
    (lambda state: {"state_dict": state}, ["taken from 'state_dict' in it"]),
    (
        lambda state: {
            "epoch": 3,
            "best_acc1": torch.tensor(0.5),
            "model": state,
            "optimizer": {"state": {}},
        },
        ["taken from 'model' in it, without best_acc1, epoch, optimizer"],
    ),
    (
        lambda state: {
            "model": {},
            "model_ema": {"n_averaged": torch.tensor(7), **_prefixed("module.")(state)},
        },
        ["taken from 'model_ema' in it, without model", "without the prefix 'module.' of its names"],
    ),
]


@pytest.mark.parametrize("kind", ["zip", "before-1.6"])
@pytest.mark.parametrize(("change", "notes"), AS_PEOPLE_HAVE_THEM)
def test_weights_as_people_have_them_are_taken_and_what_was_stripped_is_reported(
    file: Path, change: Callable[[dict[str, Any]], dict[str, Any]], notes: list[str], kind: str
) -> None:
    expected = {
        name: torch.zeros_like(value) if "num_batches" in name else value
        for name, value in _model().state_dict().items()
    }
    torch.save(change(expected), file, _use_new_zipfile_serialization=kind == "zip")
    model = _model()

    weights, _ = read_weights(_config(), _volume(file))

    assert load_pretrained(model, weights, _config()) == notes
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_weights_of_safetensors_are_taken(file: Path) -> None:
    expected = _model().state_dict()
    file.write_bytes(safetensors({k: v for k, v in expected.items() if v.dtype == torch.float32}))
    model = _model()

    assert load_pretrained(model, read_weights(_config(), _volume(file))[0], _config()) == []
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_a_last_layer_of_other_classes_is_reported() -> None:
    assert load_pretrained(_model(), _model(classes=7).state_dict(), _config()) == [
        "its last layer has 7 classes and is replaced by a new one"
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("conv1.weight"), "it lacks conv1.weight"),
        (lambda state: state.update(x=torch.ones(1)), "it has, and the model lacks, x"),
        (lambda state: state.update({"conv1.weight": torch.ones(2)}), "of another shape: conv1.weight"),
        (lambda state: state.update({"fc.weight": torch.ones(7, 9)}), "of another shape: fc.weight"),
        (lambda state: state.update({"bn1.bias": "no tensor"}), "of another shape: bn1.bias"),
        (lambda state: state.clear(), "it lacks bn1.bias, .* and 97 more"),
    ],
)
def test_anything_else_that_does_not_fit_is_named(
    change: Callable[[dict[str, Any]], object], told: str
) -> None:
    state = dict(_model().state_dict())
    change(state)

    with pytest.raises(BadInput, match=rf"data/w/x\.pth does not fit resnet18: .*{told}"):
        load_pretrained(_model(), state, _config())


def test_a_file_is_read_and_proven(file: Path) -> None:
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()

    weights, digests = read_weights(_config(weights_sha256=sha256), _volume(file))

    assert weights["fc.weight"].shape == (7, 512)
    assert {path: digest.sha256 for path, digest in digests.items()} == {file: sha256}
    assert read_weights(ModelConfig(name="resnet18"), _volume(file)) == ({}, {})


def _outside(file: Path) -> None:
    elsewhere = file.rename(_volume(file) / "elsewhere.pth")
    file.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda file: file.unlink(), r"cannot be read: No such file .*put .* on the volume as data/w"),
        (
            lambda file: file.write_bytes(b"weights"),
            "is not a file of weights that can be used: it is .* It must hold a state_dict",
        ),
        (
            lambda file: file.write_bytes(
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
            ),
            "is not a file of weights that can be used: it is .*LFS",
        ),
        (lambda file: file.write_bytes(b"<!DOCTYPE html><html></html>"), "used: it is a web page"),
        (lambda file: torch.save([1, 2], file), "it does not hold a state_dict"),
        (
            lambda file: torch.save(_model(), file),
            "is not a file of weights .* it names ",
        ),  # code, not tensors
        (
            lambda file: os.truncate(file, 1 << 30),
            "its recorded size is 1,073,741,824 bytes; at most 536,870,9",
        ),
        (_outside, "leads out of the volume's data/"),
    ],
    ids=["absent", "no-weights", "lfs", "html", "list", "pickled-model", "huge", "link"],
)
def test_a_file_that_cannot_be_taken_is_refused(
    file: Path, harm: Callable[[Path], object], told: str
) -> None:
    harm(file)

    with pytest.raises(BadInput, match=told):
        read_weights(_config(), _volume(file))


def test_another_file_than_was_meant_is_refused(file: Path) -> None:
    with pytest.raises(BadInput, match=r"is not the file that model\.weights_sha256 names: its SHA-256 is "):
        read_weights(_config(weights_sha256="0" * 64), _volume(file))


# --- learning ---


def _changed(place: Place, name: str, *settings: str, strategy: Strategy | None = None) -> set[str]:
    """The parts of a model, weights and statistics, that a training of one step changes."""
    context = place.context(
        "train", "data.name=imagefolder", "data.folder=data/clothes", "model.weights=data/w/x.pth",
        "data.size=40", f"model.name={name}", "train.batch_size=32", "train.precision=fp32", "train.epochs=1",
        *settings,
    )  # fmt: skip
    torch.manual_seed(0)
    before = _model(name, classes=2).state_dict()
    spec = ModelSpec(
        name=name,  # type: ignore[arg-type]
        input_shape=(3, 40, 40),
        class_names=("a", "b"),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        dataset="data/clothes",
    )
    images = torch.randint(0, 256, (32, 3, 40, 40), dtype=torch.uint8)
    inputs = TrainInputs(Split(images, torch.arange(32) % 2, ("a", "b"), {}), spec, {}, before)
    fit(context, inputs, StopRequest(), strategy or Single(torch.device("cpu")))
    after = torch.load(place.folder.model, weights_only=True)
    return {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}


@pytest.mark.parametrize(
    ("name", "head"),
    [("resnet18", "fc"), ("mobilenet_v3_small", "classifier"), ("efficientnet_b0", "classifier")],
)
def test_of_a_frozen_model_only_the_head_learns(place: Place, name: str, head: str) -> None:
    assert _changed(place, name, "train.freeze=backbone") == {head}


def test_all_of_a_model_learns_unless_it_is_frozen(place: Place) -> None:
    model = _model("resnet18", classes=2)

    assert _changed(place, "resnet18") == {
        name for name, part in model.named_children() if list(part.parameters())
    }


def test_a_frozen_model_learns_in_shared_memory(place: Place) -> None:
    model = _model("resnet18", classes=2)
    assert worth_it(model, torch.zeros(2, 3, 40, 40), 32, 2) == 2
    alone = Hogwild(0, Ledger(1, SharedMemory(model.state_dict().values(), copies=3)))

    assert _changed(place, "resnet18", "train.freeze=backbone", strategy=alone) == {"fc"}


def test_a_volume_that_does_not_answer_is_no_missing_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_: Path) -> FileDigest:
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(FileDigest, "of", silent)

    with pytest.raises(Failed, match=r"cannot use .*x.pth: Connection timed out; this may pass"):
        read_weights(_config(), _volume(file))

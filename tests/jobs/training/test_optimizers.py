"""The optimisers and schedules that can be chosen."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from jobrelay_runner.signals import StopRequest
from jobrelay_train.config.schema import TrainConfig
from jobrelay_train.train import train
from jobrelay_train.training.optim import build_optimizer, init_optimizer_state
from tests.support import REPOSITORY
from tests.support.volume import Place, write_data

OPTIMIZERS = ("adamw", "sgd", "adadelta")
CPU = torch.device("cpu")


def _learn(name: str, steps: int, *, state_first: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model, data = nn.Linear(5, 2), torch.randn(4, 5)
    chosen = build_optimizer(TrainConfig.model_validate({"optimizer": name}), model.parameters(), CPU)
    if state_first:
        init_optimizer_state(chosen)
    for _ in range(steps):
        chosen.zero_grad()
        model(data).square().mean().backward()
        chosen.step()
    return model, chosen


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_that_is_made_beforehand_changes_nothing(name: str) -> None:
    fresh, _ = _learn(name, 0, state_first=False)
    untouched, prepared = _learn(name, 0, state_first=True)
    plain, wanted = _learn(name, 3, state_first=False)
    shared, found = _learn(name, 3, state_first=True)

    for parameter, same in zip(fresh.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(parameter, same)
        moments = prepared.state[same]
        assert moments
        assert all(not moment.any() for moment in moments.values())
    for parameter, same in zip(plain.parameters(), shared.parameters(), strict=True):
        assert torch.equal(parameter, same)
        assert {key: value.tolist() for key, value in wanted.state[parameter].items()} == {
            key: value.tolist() for key, value in found.state[same].items()
        }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_that_goes_on_ends_with_the_weights_of_one_that_did_not_stop(
    tmp_path: Path, name: str
) -> None:
    # mnist-net draws from torch's generator, for its dropout
    settings = ("data.name=mnist", "model.name=mnist-net", f"train.optimizer={name}", "train.schedule=step",
                "train.batch_size=100")  # fmt: skip
    models = []
    for root, lengths in ((tmp_path / "once", [2]), (tmp_path / "twice", [1, 2])):
        write_data(root / "data" / "mnist")
        place = Place(root, settings=settings)
        for epochs in lengths:
            train(place.context("train", f"train.epochs={epochs}"), StopRequest())
        models.append(place.folder.model.read_bytes())

    assert models[0] == models[1]


def test_no_optimizer_imports_the_compiler() -> None:
    """Nothing here is compiled, and importing it takes a second and 70 MiB."""
    code = f"""
import sys, torch
from jobrelay_train.config.schema import TrainConfig
from jobrelay_train.training.optim import build_optimizer, init_optimizer_state
for name in {OPTIMIZERS}:
    parameters = torch.nn.Linear(2, 2).parameters()
    chosen = build_optimizer(TrainConfig(optimizer=name), parameters, torch.device("cpu"))
    init_optimizer_state(chosen)
    chosen.load_state_dict(chosen.state_dict())
print([name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_step_is_pytorchs_own(name: str) -> None:
    model, chosen = _learn(name, 3, state_first=False)
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "adadelta": torch.optim.Adadelta}[name]
    assert isinstance(chosen, kind)
    torch.manual_seed(0)
    other, data = nn.Linear(5, 2), torch.randn(4, 5)
    known = inspect.signature(kind).parameters.keys() - {"params"}
    plain = kind(other.parameters(), **{key: chosen.param_groups[0][key] for key in known})
    for _ in range(3):
        plain.zero_grad()
        other(data).square().mean().backward()
        plain.step()
    for found, wanted in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(found, wanted)

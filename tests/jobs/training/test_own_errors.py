"""What is wrong with a user's functions is reported before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from jobrelay_runner.errors import BadInput
from jobrelay_runner.signals import StopRequest
from jobrelay_train.eval import own_metrics
from jobrelay_train.train import train
from tests.support.own import write_code
from tests.support.volume import Place

WRONG = """
import torch
from torch import nn
from PACKAGE.data import Bars
from PACKAGE.nets import small

number = 3


def positional(classes):
    return small(classes, (1, 6, 6))


def nothing(num_classes, input_shape):
    pass


def raising(num_classes, input_shape):
    raise LookupError("no such size")


def wide(num_classes, input_shape):
    return small(num_classes + 1, input_shape)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(36, 3)

    def forward(self, x):
        return self.body(x.flatten(1)), None


def pair(num_classes, input_shape):
    return Pair()


class Flat(Pair):
    def forward(self, x):
        return self.body(x)


def flat(num_classes, input_shape):
    return Flat()


def each(scores, labels):
    return nn.functional.cross_entropy(scores, labels, reduction="none")


def number_loss(scores, labels):
    return 0.5


def detached(scores, labels):
    return scores.detach().sum()


def unsplit():
    return []


def endless(split):
    return iter([])


def empty(split):
    return []


def alone(split):
    return [torch.zeros(1, 6, 6)] * 3


def arrays(split):
    return [([0.0], 1)] * 3


def named(split):
    return [(torch.zeros(1, 6, 6), "left")] * 3


def ragged(split):
    return [(torch.zeros(1, 6, 6 + index // 90), 0) for index in range(100)]


def failing(split):
    return Failing(split)


class Failing(Bars):
    def __getitem__(self, index):
        return super().__getitem__(index + (1000 if index == 77 else 0))


def outside(split):
    bars = Bars(split)
    bars.targets[5] = 3
    return bars


def other_test(split):
    return [(torch.zeros(2 if split == "test" else 1, 6, 6), 0)] * 3


def test_outside(split):
    bars = Bars(split)
    bars.targets[5] = 7 if split == "test" else 0
    return bars


def one(values):
    return {}


def text(scores, labels):
    return {"note": "good"}


def listed(scores, labels):
    return [1.0]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A volume, and code on Python's path in a package that no other test has imported."""
    package = re.sub(r"\W", "_", tmp_path.name)
    texts = {name: text.replace("PACKAGE", package) for name, text in {"wrong": WRONG}.items()}
    write_code(tmp_path / "code", package, broken="import torch\nvalue = 1 +\n", exits=_EXITS, **texts)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    own = (f"model.name={package}.nets:small", f"data.name={package}.data:plain", "train.epochs=1")
    return Place(tmp_path / "volume", run=package, settings=own)


_EXITS = "import sys\nsys.exit('usage: exits FILE')\n"


@pytest.mark.parametrize(
    ("setting", "reported"),
    [
        ("model.name=nowhere_at_all:net", "model.name: nowhere_at_all:net: there is no module nowhere_at_al"),
        ("model.name=P.net:small", "there is no module P.net in the code"),
        ("model.name=P.broken:net", "importing P.broken failed at P/broken.py, line 2: value = 1 +: SyntaxE"),
        ("model.name=P.exits:net", "P/exits.py, line 2, in <module>: sys.exit('usage: exits FILE'): SystemE"),
        ("model.name=P.nets:smal", "P/nets.py has no smal; did you mean P.nets:small?"),
        ("model.name=P.wrong:number", "P.wrong:number (P/wrong.py): it is an int, and a function is expecte"),
        ("model.name=P.wrong:positional", "called with (num_classes=…, input_shape=…), and takes (classes)"),
        ("model.name=P.wrong:nothing", "it returned NoneType, and a torch.nn.Module is expected"),
        ("model.name=P.wrong:raising", ", in raising: raise LookupError(\"no such size\"): LookupError: no"),
        ("model.name=P.wrong:wide", "it returned (2, 4), and scores of (2, 3), one for each class, are expe"),
        ("model.name=P.wrong:pair", "the module returned a tuple, and a tensor with scores of (2, 3)"),
        ("model.name=P.wrong:flat", ", in forward: return self.body(x): RuntimeError: mat1 and mat2"),
        ("model.name=mnist-net", "model.name: mnist-net cannot take inputs of (1, 6, 6), which P.data:plain"),
        ("model.name=mnist-hogwild-net", "mnist-hogwild-net cannot take inputs of (1, 6, 6)"),
        ("train.loss=P.wrong:each", "it returned a tensor of (2,); the mean loss of the batch is expected"),
        ("train.loss=P.wrong:number_loss", "it returned float '0.5'; the mean loss of the batch is expected"),
        ("train.loss=P.wrong:detached", "its result does not depend on the scores"),
        ("train.loss=P.wrong:one", "it is called with (scores, labels), and takes (values)"),
        ("data.name=P.wrong:unsplit", "it is called with ('train'), and takes ()"),
        ("data.name=P.wrong:endless", "for 'train' it returned list_iterator, and a Dataset"),
        ("data.name=P.wrong:empty", "'train' is empty"),
        ("data.name=P.wrong:alone", "item 0 of 'train' is a Tensor, and (tensor, label) is expected"),
        ("data.name=P.wrong:arrays", "item 0 of 'train' is (list, …), and (tensor, label) is expected"),
        ("data.name=P.wrong:named", "item 0 of 'train' is (tensor, str), and (tensor, label) with a whole"),
        ("data.name=P.wrong:ragged", "item 90 of 'train' is a tensor of (1, 6, 7), torch.float32, and other"),
        ("data.name=P.wrong:failing", "item 77 of 'train' failed at P/data.py, line "),
        ("data.name=P.wrong:outside", "'train' has the label 3, and there are 3 classes, 0 to 2"),
        ("data.name=P.wrong:other_test", "item 0 of 'test' is a tensor of (2, 6, 6)"),
        ("data.name=P.wrong:test_outside", "'test' has the label 7, and there are 3 classes"),
        ("eval.metrics=P.wrong:one", "eval.metrics: P.wrong:one (P/wrong.py): it is called with (scores, la"),
        ("infer.source=data/photos", "files can only be classified by a model of pixels, uint8 (C, H, W)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_reported_before_the_training(place: Place, setting: str, reported: str) -> None:
    context = place.context("train", re.sub(r"=P\.", f"={place.run}.", setting))

    with pytest.raises(BadInput) as raised:
        train(context, StopRequest())

    said = str(raised.value).replace(f"{place.run}.", "P.").replace(f"{place.run}/", "P/")
    assert reported in said
    assert not place.folder.checkpoints.exists()
    assert not place.folder.model.exists()


@pytest.mark.parametrize("name", ["text", "listed"])
def test_metrics_that_are_no_numbers_are_refused(place: Place, name: str) -> None:
    config = place.context("eval", f"eval.metrics={place.run}.wrong:{name}").config
    with pytest.raises(BadInput, match="a dict of numbers is expected"):
        own_metrics(config, torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))

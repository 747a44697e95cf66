"""Code as users write it for the built-in trainer: networks, data sets, losses, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Final

NETS: Final = '''
import os
import pathlib
import signal

import torch
from torch import nn

calls = []


class Net(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.body = nn.Linear(features, 16)
        self.tied = nn.Linear(16, 16)
        self.tied_too = nn.Linear(16, 16)
        self.tied_too.weight = self.tied.weight
        self.unused = nn.Linear(16, 1)
        self.register_buffer("scale", torch.ones(1), persistent=False)
        self.dropout = nn.Dropout(0.2)  # draws from torch's generator
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        x = torch.relu(self.body(x.view(x.shape[0], -1)) * self.scale)
        return self.head(self.dropout(self.tied_too(torch.relu(self.tied(x)))))


def small(num_classes, input_shape):
    features = 1
    for side in input_shape:
        features *= side
    return Net(features, num_classes)


def words(num_classes, input_shape):
    return nn.Sequential(nn.EmbeddingBag(10, 8), nn.Linear(8, num_classes))


def scaled(scores, labels):
    return 0.5 * nn.functional.cross_entropy(scores, labels)


def stopping(scores, labels):
    """The 100th call asks the training to stop, as SIGTERM from outside does, unless that was before."""
    marker = pathlib.Path(os.environ["MARKER"])
    calls.append(1)
    if len(calls) == 100 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGTERM)
    return nn.functional.cross_entropy(scores, labels)


def measured(scores, labels):
    return {"top2": (scores.topk(2).indices == labels[:, None]).any(1).float().mean()}
'''

DATA: Final = """
import random

import torch


class Bars:
    '''Images of a bright bar, whose place is the label.'''

    classes = ["left", "middle", "right"]

    def __init__(self, split, varies=False):
        generator = torch.Generator().manual_seed({"train": 1, "val": 2, "test": 3}[split])
        count = 120 if split == "train" else 30
        self.targets = torch.randint(0, 3, (count,), generator=generator).tolist()
        self.images = torch.rand(count, 1, 6, 6, generator=generator)
        for image, label in zip(self.images, self.targets):
            image[:, :, 2 * label : 2 * label + 2] += 1
        self.varies = varies

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        image = self.images[index]
        if self.varies:
            image = image + 0.1 * torch.randn(image.shape) + 0.1 * random.random()
        return image, self.targets[index]


def plain(split):
    return Bars(split)


def varied(split):
    return Bars(split, varies=True)


def pixels(split):
    bars = Bars(split)
    return [((image * 100).byte(), label) for image, label in zip(bars.images, bars.targets)]


def texts(split):
    if split == "val":
        return None
    return [(torch.tensor([label * 3, label * 3 + 1]), label) for label in Bars(split).targets]
"""


def write_code(folder: Path, package: str = "mine", **modules: str) -> Path:
    """A folder with a package: nets.py, data.py, and more modules."""
    (folder / package).mkdir(parents=True, exist_ok=True)
    for name, text in {"__init__": "", "nets": NETS, "data": DATA, **modules}.items():
        (folder / package / f"{name}.py").write_text(text)
    return folder

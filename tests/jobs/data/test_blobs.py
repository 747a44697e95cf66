"""The toy data: two blobs of points, what a perceptron makes of them, and the picture of it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from jobrelay_train.config.schema import STAGES
from jobrelay_train.data import blobs
from jobrelay_train.inference.boundary import draw_boundary
from tests.support.volume import Place

BLUE, ORANGE = (0x09, 0x69, 0xDA), (0xE3, 0x6A, 0x09)
SETTINGS = ("data.name=blobs", "model.name=perceptron", "infer.samples=20", "eval.export=torch")


def test_the_seed_makes_the_points() -> None:
    points, labels = blobs.make(3, "train")

    assert (points.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert points.shape == (6000, 2)
    assert labels.bincount().tolist() == [3000, 3000]
    assert torch.equal(points, blobs.make(3, "train")[0])
    assert not torch.equal(points, blobs.make(4, "train")[0])
    assert not torch.equal(points[:1000], blobs.make(3, "test")[0])


def test_no_line_tells_all_of_them_apart_but_the_best_one_nearly_does() -> None:
    points, labels = blobs.make(0, "train")
    right = (points @ torch.tensor([1.2, 0.8]) > 0).long() == labels

    assert 0.975 < right.double().mean().item() < 0.985


def test_a_perceptron_learns_them_and_the_picture_shows_how(tmp_path: Path) -> None:
    place = Place(tmp_path, settings=SETTINGS)
    said = []
    for stage in STAGES:
        ended = place.do(stage)
        assert (ended.code, ended.err) == (0, ""), ended.out
        said.append(ended.out)

    assert "training perceptron (6 parameters) on 6,000 points of blobs: 5 epochs" in said[0]
    assert "points/s" in said[0]
    assert place.record("eval").metrics["test_acc"] > 0.96
    assert "as the model on 1,000 test points" in said[1]
    assert "classifying 20 points (of 1,000 in blobs;" in said[2]
    assert sorted(place.record("infer").outputs) == [
        "inference.json", "predictions.json", "results/decision_boundary.png",
    ]  # fmt: skip
    predictions = json.loads(place.folder.predictions.read_text())
    assert len(predictions) == 20
    assert {line["file"] for line in predictions} == {"results/decision_boundary.png"}
    with Image.open(place.folder.results / "decision_boundary.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or ()}
    assert {BLUE, ORANGE, (0, 0, 0)} <= colours  # points of both classes, and some taken wrongly


@pytest.mark.parametrize(("wrong", "crosses"), [(False, False), (True, True)])
def test_a_cross_is_on_every_point_that_is_taken_wrongly(wrong: bool, crosses: bool) -> None:
    points = torch.tensor([[-1.0, 1.0], [1.0, -1.0], [0.5, -1.0]])
    labels = torch.tensor([0, 1, 0 if wrong else 1])

    with Image.open(io.BytesIO(draw_boundary(_by_x, points, labels, ("blue", "orange")))) as picture:
        whole = picture.convert("RGB")
        left, right = whole.getpixel((5, 320)), whole.getpixel((635, 320))
        plane = whole.crop((0, 0, 640, 640)).getcolors(1 << 20) or []

    assert left == (0xC2, 0xDA, 0xF6)  # blue, a quarter of it
    assert right == (0xF8, 0xDA, 0xC2)
    assert ((0, 0, 0) in {colour for _, colour in plane}) == crosses


def _by_x(points: Tensor) -> Tensor:
    return (points[:, 0] > 0).long()

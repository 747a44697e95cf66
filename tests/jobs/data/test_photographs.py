"""Photographs are prepared as the images were that a model has learnt from, and an empty one is nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image, ImageOps

from jobrelay_train.data.images.photographs import Subject, prepared
from tests.support import photographs
from tests.support.volume import REPOSITORY, Place, idx_bytes

MINI = REPOSITORY / "jobs" / "jobrelay_train" / "data" / "assets" / "fashion-mnist-mini"
SMALL = REPOSITORY / "tests" / "data" / "digits-8x8.txt"
#: Of the accuracy on the images of the data set, what is wanted on photographs.
WANTED = 0.9


def test_strokes_have_the_place_and_the_size_that_mnist_gives_them() -> None:
    rng = numpy.random.default_rng(1)
    alike = 0
    for number in range(200):
        picture, ink = photographs.photographed(photographs.drawn(number % 10, rng), rng)
        image = prepared(picture, "digit")
        if image is None:
            continue
        found = numpy.asarray(image) / 255
        expected = photographs.as_mnist(ink)
        used = numpy.argwhere(found > 0.2)
        centre = [float((places * found).sum() / found.sum()) for places in numpy.indices(found.shape)]
        alike += (
            abs(int(numpy.ptp(used, axis=0).max()) - 19) <= 2
            and max(abs(place - 14) for place in centre) <= 0.6
            and numpy.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.7
        )
    assert alike >= 0.9 * 200


def test_garments_on_grounds_are_recognised_nearly_as_well_as_the_native_images(tmp_path: Path) -> None:
    place = Place(tmp_path, settings=("train.epochs=4",))
    for stage in ("train", "eval"):
        assert place.do(stage).code == 0
    native = json.loads(place.folder.eval_results.read_text())["test_acc"]
    folder = tmp_path / "data" / "photos"
    folder.mkdir(parents=True)
    for name, picture in photographs.clothes(*photographs.read_test_images(MINI), 100):
        picture.save(folder / f"{name}.png", compress_level=1)

    ended = place.do("infer", "--set", "infer.source=data/photos", "--set", "infer.samples=all")

    assert ended.code == 0, ended
    predictions = json.loads(place.folder.predictions.read_text())
    assert len(predictions) == 100
    assert photographs.right(predictions)["garment"] / 100 >= WANTED * native


def test_small_digits_on_paper_are_recognised_nearly_as_well_as_the_native_images(tmp_path: Path) -> None:
    images, labels = photographs.read_small(SMALL)
    others = images[::-1], labels[::-1]  # of other hands
    _write_native(tmp_path / "data" / "mnist", "train", photographs.native(images, labels, 200))
    _write_native(tmp_path / "data" / "mnist", "t10k", photographs.native(*others, 100))
    place = Place(tmp_path, settings=("data.name=mnist", "train.epochs=30"))
    for stage in ("train", "eval"):
        assert place.do(stage).code == 0
    native = json.loads(place.folder.eval_results.read_text())["test_acc"]
    assert native >= 0.8  # else there is little to compare with
    folder = tmp_path / "data" / "photos"
    folder.mkdir()
    for name, picture in photographs.small(*others, 100):
        picture.save(folder / f"{name}.png", compress_level=1)

    ended = place.do("infer", "--set", "infer.source=data/photos", "--set", "infer.samples=all")

    assert ended.code == 0, ended
    predictions = json.loads(place.folder.predictions.read_text())
    assert len(predictions) == 100
    assert photographs.right(predictions)["small"] / 100 >= WANTED * native


def _write_native(folder: Path, part: str, pictures: Iterator[tuple[str, Image.Image]]) -> None:
    """The two files of this part of a data set of images that are named by their classes."""
    folder.mkdir(parents=True, exist_ok=True)
    named = [(int(name[0]), torch.from_numpy(numpy.array(image))) for name, image in pictures]
    (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(torch.stack([image for _, image in named])))
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(torch.tensor([label for label, _ in named])))


@pytest.mark.parametrize("subject", ["digit", "garment"])
def test_an_image_of_the_data_set_stays_as_it_is_however_it_is_kept(subject: Subject) -> None:
    for native in photographs.read_test_images(MINI)[0][:100]:
        image = Image.fromarray(native)
        for kept in (
            image,
            *(image.resize((28 * times,) * 2, Image.Resampling.NEAREST) for times in (2, 10, 17)),
        ):
            found = prepared(kept.convert("RGB"), subject)
            assert found is not None
            assert numpy.array_equal(numpy.asarray(found), native)
        if numpy.median(native[[0, -1]]) <= 5:
            found = prepared(ImageOps.invert(image).convert("RGB"), subject)
            assert found is not None
            assert numpy.array_equal(numpy.asarray(found), native)


def test_paper_with_nothing_on_it_is_nothing() -> None:
    rng = numpy.random.default_rng(5)

    found = [prepared(photographs.empty(rng), "digit") for _ in range(60)]

    assert sum(each is not None for each in found) <= 6  # a shadow now and then


@pytest.mark.parametrize("subject", ["digit", "garment"])
def test_one_colour_is_nothing(subject: Subject) -> None:
    for colour in ("white", "gray", "saddlebrown", "black"):
        for size in ((300, 200), (280, 280), (28, 28), (1, 1)):
            assert prepared(Image.new("RGB", size, colour), subject) is None


def test_nothing_is_no_prediction(trained: Place) -> None:
    photos = trained.root / "data" / "photos"
    photos.mkdir()
    rng = numpy.random.default_rng(2)
    photographs.on_paper(photographs.drawn(3, rng), rng).save(photos / "a.png")
    Image.new("RGB", (300, 200), "beige").save(photos / "b.png")

    ended = trained.do("infer", "--set", "infer.source=data/photos", "--set", "infer.samples=all")

    assert ended.code == 0, ended
    assert "classifying 1 image" in ended.out
    assert "b.png: nothing found\n" in ended.out
    assert "1 image classified, nothing found in 1; the pictures are in" in ended.out
    a, b = json.loads(trained.folder.predictions.read_text())
    assert (a["image"], b["image"], b["nothing_found"], b["predicted"]) == ("a.png", "b.png", True, None)
    assert "probability" not in b
    picture = trained.folder.path / b["picture"]
    assert picture.name == "b_nothing found.png"
    assert picture.is_file()
    told = json.loads(trained.folder.inference.read_text())
    assert (told["images"], told["nothing_found"], told["skipped"]) == (1, ["b.png"], [])
    record = trained.record("infer")
    assert {b["picture"], "predictions.json"} <= record.outputs.keys()
    assert "../../data/photos/b.png" in record.inputs


def test_nothing_on_any_picture_is_a_result(trained: Place) -> None:
    photos = trained.root / "data" / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (300, 200), "beige").save(photos / name)
    (photos / "c.png").touch()

    ended = trained.do("infer", "--set", "infer.source=data/photos", "--set", "infer.samples=all")

    assert ended.code == 0, ended
    assert "warning: nothing is found in any picture (2 could be read)\n" in ended.out
    assert "0 images classified, nothing found in 2; the pictures are in" in ended.out
    predictions = json.loads(trained.folder.predictions.read_text())
    assert [each["image"] for each in predictions] == ["a.png", "b.png"]
    assert all(each["nothing_found"] and each["predicted"] is None for each in predictions)
    assert all((trained.folder.path / each["picture"]).is_file() for each in predictions)
    told = json.loads(trained.folder.inference.read_text())
    assert (told["images"], told["nothing_found"]) == (0, ["a.png", "b.png"])
    assert [told[name] for name in ("images_per_second", "batch_size", "latency")] == [None] * 3
    assert [each["file"] for each in told["skipped"]] == ["c.png"]
    assert trained.record("infer").metrics == {"samples": 0, "nothing_found": 2, "skipped": 1}

"""Networks, prediction, metrics and pictures."""

from __future__ import annotations

import io
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F  # noqa: N812

from jobrelay_runner.errors import BadEvidence
from jobrelay_train.eval import confusion_matrix, per_class
from jobrelay_train.inference.figures import draw, file_safe
from jobrelay_train.models.predict import predict
from jobrelay_train.models.registry import ModelSpec, build, normalise
from jobrelay_train.train import describe_model
from tests.support.volume import Place

MODELS = ("cnn", "mnist-net", "mnist-hogwild-net", "perceptron")
CPU = torch.device("cpu")


def _spec(name: str) -> ModelSpec:
    return ModelSpec.model_validate_json(
        f'{{"name": "{name}", "input_shape": [1, 28, 28], "class_names": {[*map(str, range(10))]}, '
        '"mean": 0.25, "std": 0.5, "dataset": "mnist"}'.replace("'", '"')
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_rebuilt_from_its_description(name: str) -> None:
    spec = _spec(name)
    model = build(spec).eval()
    again = build(ModelSpec.model_validate_json(spec.model_dump_json())).eval()
    again.load_state_dict(model.state_dict())
    images = torch.randn(3, 1, 28, 28)

    assert model(images).shape == (3, 10)
    assert torch.equal(model(images), again(images))


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_log_probabilities_whatever_the_batches(name: str) -> None:
    model, images = build(_spec(name)), torch.randint(0, 256, (7, 1, 28, 28), dtype=torch.uint8)

    found = predict(model, _spec(name), images, CPU, batch_size=3)

    assert found.shape == (7, 10)
    assert torch.allclose(found.exp().sum(1), torch.ones(7))
    assert torch.allclose(found, predict(model, _spec(name), images, CPU), atol=1e-6)
    assert torch.allclose(found, F.log_softmax(model(normalise(images, _spec(name))), dim=1), atol=1e-6)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(BadEvidence, match="takes images of"):
        predict(build(_spec("cnn")), _spec("cnn"), torch.zeros(1, 3, 28, 28, dtype=torch.uint8), CPU)


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in build(_spec(name)).state_dict().items()}


def test_the_net_has_the_parameters_of_the_example() -> None:
    assert _shapes("mnist-net") == {
        "conv1.weight": (32, 1, 3, 3), "conv1.bias": (32,),
        "conv2.weight": (64, 32, 3, 3), "conv2.bias": (64,),
        "fc1.weight": (128, 9216), "fc1.bias": (128,),
        "fc2.weight": (10, 128), "fc2.bias": (10,),
    }  # fmt: skip


def test_the_hogwild_net_has_the_parameters_of_the_example() -> None:
    assert _shapes("mnist-hogwild-net") == {
        "conv1.weight": (10, 1, 5, 5), "conv1.bias": (10,),
        "conv2.weight": (20, 10, 5, 5), "conv2.bias": (20,),
        "fc1.weight": (50, 320), "fc1.bias": (50,),
        "fc2.weight": (10, 50), "fc2.bias": (10,),
    }  # fmt: skip


def test_pixels_are_normalised_over_the_training_images(place: Place) -> None:
    from jobrelay_train.data.registry import load

    config = place.context("train").config
    data = load(config, "train", place.root)

    pixels = normalise(data.images, describe_model(config, data))

    assert pixels.dtype == torch.float32
    assert abs(pixels.mean().item()) < 1e-4
    assert abs(pixels.std().item() - 1) < 1e-4


def test_metrics_of_every_class() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    predicted = torch.tensor([0, 0, 1, 1, 2, 0])

    confusion = confusion_matrix(labels, predicted, classes=4)
    rows = per_class(confusion, ("a", "b", "c", "never"))

    assert confusion.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert [row["support"] for row in rows] == [3, 2, 1, 0]
    assert [row["precision"] for row in rows] == pytest.approx([2 / 3, 1 / 2, 0, 0])
    assert [row["recall"] for row in rows] == pytest.approx([2 / 3, 1 / 2, 0, 0])
    assert [row["f1"] for row in rows] == pytest.approx([2 / 3, 1 / 2, 0, 0])
    assert [row["name"] for row in rows] == ["a", "b", "c", "never"]


def test_a_picture_shows_the_image_enlarged_and_has_words_below_it() -> None:
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[0, 3, 5] = 200

    with Image.open(io.BytesIO(draw(image, "Sneaker", 0.987, "Sneaker"))) as right:
        assert right.format == "PNG"
        assert right.getpixel((5 * 8, 3 * 8)) == right.getpixel((5 * 8 + 7, 3 * 8 + 7)) == (200, 200, 200)
        assert right.getpixel((5 * 8 - 1, 3 * 8)) == (0, 0, 0)
        colours = {colour for _, colour in right.crop((0, 224, *right.size)).getcolors(10000) or ()}
    with Image.open(io.BytesIO(draw(image, "Sneaker", 0.5, "Bag"))) as wrong:
        others = {colour for _, colour in wrong.crop((0, 224, *wrong.size)).getcolors(10000) or ()}
    assert (0x2E, 0xA0, 0x43) in colours - others  # right is green
    assert (0xCF, 0x22, 0x2E) in others - colours  # wrong is red


def test_long_names_are_not_cut_off() -> None:
    name = "a class with a rather long name indeed"
    with Image.open(io.BytesIO(draw(torch.zeros(1, 28, 28, dtype=torch.uint8), name, 1.0, name))) as picture:
        edge = picture.crop((picture.width - 4, 224, *picture.size))
        assert edge.getcolors() == [(edge.width * edge.height, (255, 255, 255))]


@given(st.text())
def test_any_class_name_makes_a_safe_file_name(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", file_safe(name))


def test_file_names_are_what_people_expect() -> None:
    assert [file_safe(name) for name in ("T-shirt/top", "Ankle boot", "7", "../../etc", "…")] == [
        "t-shirt-top", "ankle-boot", "7", "etc", "class",
    ]  # fmt: skip

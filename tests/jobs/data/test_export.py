"""model.pt2: the model as a program of its own, proven to say what the model says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobrelay_runner.errors import Failed
from jobrelay_runner.volume.record import FileDigest
from jobrelay_train.inference.export import compare, export, load_exported
from jobrelay_train.models.predict import predict
from jobrelay_train.models.registry import ModelSpec, build, channels_last
from jobrelay_train.models.serialization.weights import CorruptFile
from tests.support.volume import Place

CPU = torch.device("cpu")


def _model(name: Any) -> tuple[torch.nn.Module, ModelSpec]:
    spec = ModelSpec(
        name=name, input_shape=(1, 28, 28), class_names=(*"0123456789",), mean=0.3, std=0.3, dataset="mnist"
    )
    return channels_last(build(spec), spec).eval(), spec


def _images(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8)


@pytest.mark.parametrize("name", ["cnn", "mnist-hogwild-net", "perceptron"])
def test_every_model_is_exported_for_any_number_of_images(tmp_path: Path, name: str) -> None:
    model, spec = _model(name)
    path = tmp_path / "model.pt2"
    path.write_bytes(export(model, spec))

    program = load_exported(path, FileDigest.of(path))

    assert compare(program, model, spec, _images(60)).largest_difference < 1e-5
    for count in (1, 2, 33):
        images = _images(count)
        assert torch.allclose(program(images), predict(model, spec, images, CPU), atol=1e-5)


def test_a_model_of_rgb_images_is_exported(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="cnn",
        input_shape=(3, 20, 20),
        class_names=("a", "b"),
        mean=(0.5, 0.4, 0.3),
        std=(0.3, 0.2, 0.1),
        dataset="data/clothes",
    )
    model = channels_last(build(spec), spec).eval()
    path = tmp_path / "model.pt2"
    path.write_bytes(export(model, spec))

    program = load_exported(path, FileDigest.of(path))

    images = torch.randint(0, 256, (60, 20, 20, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    assert compare(program, model, spec, images).largest_difference < 1e-5


def test_a_program_that_says_something_else_is_refused() -> None:
    model, spec = _model("perceptron")
    other, _ = _model("perceptron")

    with pytest.raises(Failed, match=r"the exported model differs from the model: of 60 images it puts \d+"):
        compare(lambda images: predict(other, spec, images, CPU), model, spec, _images(60))


def test_a_program_that_gives_no_numbers_is_refused() -> None:
    model, spec = _model("perceptron")

    with pytest.raises(Failed, match="probabilities differ by up to nan"):
        compare(lambda images: torch.full((len(images), 10), torch.nan), model, spec, _images(3))


def test_another_file_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"anything")

    with pytest.raises(CorruptFile, match="is not the file that was exported"):
        load_exported(path, FileDigest(sha256="0" * 64, bytes=path.stat().st_size))


def test_eval_exports_when_it_is_asked_to(trained: Place) -> None:
    ended = trained.do("eval", "--set", "eval.export=torch")

    assert ended.code == 0, ended
    assert "exported model.pt2" in ended.out
    record = trained.record("eval")
    assert sorted(record.outputs) == ["eval_results.json", "model.pt2"]
    assert record.metrics["export_images"] == 80
    assert 0 <= record.metrics["export_largest_difference"] < 1e-5
    # with nothing of this repository, as whoever deploys it
    program = (
        "import sys, torch; model = torch.export.load(sys.argv[1]).module();"
        "print(tuple(model(torch.zeros(3, 1, 28, 28, dtype=torch.uint8)).shape), 'jobs' in sys.modules)"
    )
    alone = subprocess.run(
        [sys.executable, "-c", program, str(trained.folder.exported)],
        cwd=trained.root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert alone.stdout == "(3, 10) False\n"

    assert trained.do("eval").code == 0
    assert not trained.folder.exported.exists()  # of other settings


def test_export_needs_no_home_no_compiler_and_nothing_to_write_but_the_volume(trained: Place) -> None:
    trained.environment = {"HOME": "/nonexistent", "PATH": "", "CC": "/nonexistent", "TMPDIR": "/nonexistent"}

    assert trained.do("eval", "--set", "eval.export=torch").code == 0

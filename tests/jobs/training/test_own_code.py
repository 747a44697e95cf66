"""Networks, data sets, losses and metrics of the user's own, in real trainings of a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.own import write_code
from tests.support.volume import Place, finish

OWN = ("model.name=mine.nets:small", "train.batch_size=8", "train.precision=fp32")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A volume, and a folder of code on Python's path."""
    code = write_code(tmp_path / "code")
    return Place(tmp_path / "volume", settings=OWN, environment=_path(code))


def _path(code: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"jobs:{code}"}


def _with(place: Place, run: str, *settings: str) -> Place:
    return Place(place.root, run, (*place.settings, *settings), place.environment)


@pytest.mark.parametrize("data", ["plain", "varied"])
def test_a_training_stopped_in_the_middle_of_an_epoch_ends_with_the_same_weights(
    place: Place, data: str, tmp_path: Path
) -> None:
    # `varied` is read by other processes, batch by batch, and draws random numbers for every item
    settings = (f"data.name=mine.data:{data}", "train.loss=mine.nets:stopping", "train.epochs=5")
    undisturbed, stopped = (_with(place, run, *settings, "train.batch_size=3") for run in "ab")
    for each in (undisturbed, stopped):
        each.environment = {**place.environment, "MARKER": str(tmp_path / f"stopped-{each.run}")}
    (tmp_path / "stopped-a").touch()
    ended = undisturbed.do("train")
    assert ended.code == 0, ended.out

    ended = stopped.do("train")
    assert ended.code == 143, ended.out
    assert "stopped by SIGTERM after epoch 2, step 19 of the next" in ended.out  # of 40 steps
    ended = stopped.do("train")

    assert ended.code == 0, ended.out
    assert "resuming from epoch 2, step 19 of the next" in ended.out
    assert stopped.folder.model.read_bytes() == undisturbed.folder.model.read_bytes()
    assert stopped.losses() == undisturbed.losses()


def test_items_are_the_same_whoever_reads_them(place: Place) -> None:
    alone, others = (_with(place, run, "data.name=mine.data:varied", "train.epochs=2") for run in "ab")
    with_workers = others.do("train")
    single = _one_cpu(alone)
    assert with_workers.code == single == 0, with_workers.out
    assert alone.folder.model.read_bytes() == others.folder.model.read_bytes()


def _one_cpu(place: Place) -> int:
    """Train on one CPU, where no other process reads ahead."""
    program = (
        "import os, runpy, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "sys.argv[:] = sys.argv[2:]; runpy.run_module('jobrelay_train', run_name='__main__')"
    )
    return finish(place.start("train", python=("-c", program))).code


def test_from_the_training_to_the_pictures(place: Place) -> None:
    place = _with(
        place, "a", "data.name=mine.data:plain", "train.epochs=3", "train.loss=mine.nets:scaled",
        "eval.metrics=mine.nets:measured", "eval.export=torch",
    )  # fmt: skip
    for stage in ("train", "eval", "infer"):
        ended = place.do(stage)
        assert ended.code == 0, ended
    assert 0 < place.record("eval").metrics["top2"] <= 1
    results = json.loads(place.folder.eval_results.read_text())
    assert results["metrics"]["top2"] == pytest.approx(place.record("eval").metrics["top2"])
    assert results["class_names"] == ["left", "middle", "right"]
    assert len(list(place.folder.results.glob("*.png"))) == 5
    spec = json.loads(place.folder.model_config.read_text())
    assert spec["name"] == "mine.nets:small"
    assert spec["code"] == place.record("train").means["code"]


@pytest.mark.parametrize(
    ("settings", "pictures"),
    [
        (("data.name=mine.data:pixels", "model.name=cnn"), 5),
        (("data.name=mine.data:texts", "model.name=mine.nets:words"), 0),
        (("data.name=blobs", "train.batch_size=64"), 1),
    ],
    ids=["a built-in network", "words", "built-in data"],
)
def test_own_and_built_in_go_together(place: Place, settings: tuple[str, ...], pictures: int) -> None:
    place = _with(place, "a", *settings, "train.epochs=8")
    for stage in ("train", "eval", "infer"):
        ended = place.do(stage)
        assert ended.code == 0, ended
    assert len(list(place.folder.results.glob("*.png"))) == pictures
    assert place.record("eval").metrics["test_acc"] > 0.4


@pytest.mark.parametrize("strategy", ["hogwild", "ddp"])
@pytest.mark.parametrize("data", ["plain", "varied"])
def test_several_processes_train_it(place: Place, strategy: str, data: str) -> None:
    settings = (f"train.strategy={strategy}", f"data.name=mine.data:{data}", "train.epochs=2")
    place = _with(place, "a", *settings)
    for stage in ("train", "eval"):
        ended = place.do(stage)
        assert ended.code == 0, ended
    assert place.record("eval").metrics["test_acc"] > 0.3


def test_other_code_under_the_same_run_is_refused(place: Place, tmp_path: Path) -> None:
    place = _with(place, "a", "data.name=mine.data:plain", "train.epochs=1")
    assert place.do("train").code == 0
    again = place.do("train")
    assert "nothing to do" in again.out
    net = tmp_path / "code/mine/nets.py"
    net.write_text(net.read_text() + "\n# other\n")

    changed, tested = place.do("train"), place.do("eval")

    assert changed.code == 78
    assert "this run was trained with other settings (code: was path:" in changed.out
    assert tested.code == 65
    assert "code: was path:" in tested.out


def test_a_folder_on_the_volume_is_given_to_the_function(place: Place, tmp_path: Path) -> None:
    write_code(tmp_path / "code", stored=_FOLDER)
    (place.root / "data/bars").mkdir(parents=True)
    (place.root / "data/bars/count").write_text("12")
    place = _with(place, "a", "data.name=mine.stored:read", "data.folder=data/bars", "train.epochs=1")
    ended = place.do("train")
    assert ended.code == 0, ended
    assert "on 12 images of mine.stored:read" in ended.out


_FOLDER = """
from mine.data import Bars


def read(split, folder):
    bars = Bars(split)
    return [bars[index] for index in range(int((folder / "count").read_text()))]
"""

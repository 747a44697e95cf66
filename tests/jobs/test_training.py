"""Going on with a training: which checkpoint is taken, and when none is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.checkpoint import Position, load_newest, save
from jobs.errors import BadInput, StageError
from jobs.stopping import StopRequest
from jobs.train import plan, train
from tests.jobs.support import Place


def test_row_51_a_checkpoint_whose_save_was_cut_short_is_not_one(
    trained: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    # The sidecar comes last: without it the weights beside it may be anything.
    for path in trained.folder.checkpoints.glob("*.json"):
        path.unlink()

    train(trained.assignment("train"), StopRequest())

    assert "resuming" not in capsys.readouterr().out
    assert sorted(path.name for path in trained.folder.checkpoints.iterdir()) == [
        "epoch-0001.json", "epoch-0001.pt", "epoch-0002.json", "epoch-0002.pt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.epochs=1", "train.epochs: 1 asked, but this run has come to epoch 2 already"),
        ("train.learning_rate=0.1", "train.learning_rate: was 0.005, is 0.1"),
        ("train.batch_size=64", "train.batch_size: was 128, is 64"),
        ("model.name=cnn", "model.name: was perceptron, is cnn"),
        ("seed=5", "seed: was 0, is 5"),
        ("data.name=fashion-mnist-mini", "data.name: was mnist, is fashion-mnist-mini"),
    ],
)
def test_other_settings_under_the_same_run_are_refused(trained: Place, setting: str, told: str) -> None:
    before = _files(trained)

    with pytest.raises(BadInput, match="take another --run") as raised:
        train(trained.assignment("train", setting), StopRequest())

    assert told in str(raised.value)
    assert _files(trained) == before


def test_other_data_under_the_same_run_are_refused(trained: Place) -> None:
    _change_last_label(trained)

    with pytest.raises(BadInput, match="data_sha256: was "):
        train(trained.assignment("train"), StopRequest())


def test_where_it_may_run_can_change(trained: Place) -> None:
    train(trained.assignment("train", "train.memory=4Gi", "train.backoff_limit=5"), StopRequest())


def test_row_54_a_request_to_stop_is_obeyed_at_the_next_step(place: Place) -> None:
    stop = StopRequest()
    stop.requested = True

    with pytest.raises(
        StageError, match=r"stopped by SIGTERM after epoch 0; saved as checkpoints/epoch-0000.pt"
    ):
        train(place.assignment("train"), stop)

    assert train(place.assignment("train"), StopRequest()).metrics["epochs"] == 2


def test_training_that_diverges_says_what_to_change(place: Place) -> None:
    # Every step multiplies the weights by up to 1 - 10.
    settings = ("train.learning_rate=10", "train.weight_decay=1", "train.batch_size=10", "train.epochs=4")

    with pytest.raises(BadInput, match=r"training has diverged.*smaller --set train.learning_rate"):
        train(place.assignment("train", *settings), StopRequest())


@pytest.mark.parametrize("batch_size", [1, 299, 65536])
def test_any_batch_size_will_do(place: Place, batch_size: int) -> None:
    settings = ("model.name=cnn", f"train.batch_size={batch_size}", "train.epochs=1")

    assert train(place.assignment("train", *settings), StopRequest()).metrics["epochs"] == 1


def test_an_epoch_has_every_image_once_in_an_order_of_its_own(place: Place) -> None:
    config = place.assignment("train").config
    cpu = torch.device("cpu")
    first, mirrored = plan(config, 0, 1000, cpu)
    second, _ = plan(config, 1, 1000, cpu)

    assert first.sort().values.tolist() == list(range(1000))
    assert not torch.equal(first, second)
    assert torch.equal(first, plan(config, 0, 1000, cpu)[0])
    assert mirrored is None  # a 2 in a mirror is not a 2
    clothes = place.assignment("train", "data.name=fashion-mnist").config
    _, mirrored = plan(clothes, 0, 1000, cpu)
    assert mirrored is not None
    assert 400 < int(mirrored.sum()) < 600


def test_checkpoints_are_taken_by_how_far_they_are(place: Place) -> None:
    fence, folder = place.assignment("train").fence, place.folder.checkpoints
    for epoch, step in [(9, 0), (9, 120), (10, 0)]:
        save(fence, folder, Position(epoch=epoch, step=step), {"epoch": epoch, "step": step}, {})
        found = load_newest(folder, {})
        assert found is not None
        assert (found[0], found[1]) == (Position(epoch=epoch, step=step), {"epoch": epoch, "step": step})

    assert sorted(path.name for path in folder.glob("*.pt")) == ["epoch-0009-step-00120.pt", "epoch-0010.pt"]


def _change_last_label(place: Place) -> None:
    labels = place.root / "data" / "mnist" / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[-1] = (content[-1] + 1) % 10
    labels.write_bytes(content)


def _files(place: Place) -> dict[Path, bytes]:
    """All files of the run but those of the fence, which every process has of its own."""
    return {
        path: path.read_bytes()
        for path in place.folder.path.rglob("*")
        if path.is_file() and not path.parent.name.endswith(".partial")
    }

"""Going on with a training: which checkpoint is taken, and when none is."""

from __future__ import annotations

import json
from itertools import chain, repeat
from pathlib import Path

import pytest
import torch

from jobrelay_runner.errors import BadInput, StageError
from jobrelay_runner.signals import StopRequest
from jobrelay_train.config.loading import ConfigError
from jobrelay_train.data.loader import moved, plan
from jobrelay_train.data.split import Split
from jobrelay_train.models.serialization.checkpoint import Position, load_newest, save
from jobrelay_train.train import train
from tests.support.volume import Place


def test_row_51_a_checkpoint_whose_save_was_cut_short_is_not_one(
    trained: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    # The sidecar comes last: without it the weights beside it may be anything.
    for path in trained.folder.checkpoints.glob("*.json"):
        path.unlink()

    train(trained.context("train"), StopRequest())

    assert "resuming" not in capsys.readouterr().out
    assert sorted(path.name for path in trained.folder.checkpoints.iterdir()) == [
        "epoch-0001.json", "epoch-0001.pt", "epoch-0002.json", "epoch-0002.pt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.epochs=1", "train.epochs: 1 asked for, but this run has already reached epoch 2"),
        ("train.learning_rate=0.1", "train.learning_rate: was 0.005, is 0.1"),
        ("train.batch_size=128", "train.batch_size: was 64, is 128"),
        ("model.name=cnn", "model.name: was perceptron, is cnn"),
        ("seed=5", "seed: was 0, is 5"),
        ("data.name=fashion-mnist-mini", "data.name: was mnist, is fashion-mnist-mini"),
    ],
)
def test_other_settings_under_the_same_run_are_refused(trained: Place, setting: str, told: str) -> None:
    before = _files(trained)

    with pytest.raises(BadInput, match="use another --run") as raised:
        train(trained.context("train", setting), StopRequest())

    assert told in str(raised.value)
    assert _files(trained) == before


def test_other_data_under_the_same_run_are_refused(trained: Place) -> None:
    _change_last_label(trained)

    with pytest.raises(BadInput, match="data_sha256: was "):
        train(trained.context("train"), StopRequest())


def test_where_it_may_run_can_change(trained: Place) -> None:
    train(trained.context("train", "train.memory=4Gi", "train.backoff_limit=5"), StopRequest())


def test_row_54_a_request_to_stop_is_obeyed_at_the_next_step(place: Place) -> None:
    stop = StopRequest()
    stop.requested = True

    with pytest.raises(
        StageError, match=r"stopped by SIGTERM after epoch 0; saved as checkpoints/epoch-0000.pt"
    ):
        train(place.context("train"), stop)

    assert train(place.context("train"), StopRequest()).metrics["epochs"] == 2


def test_row_54_an_epoch_that_was_interrupted_has_the_loss_of_an_undisturbed_one(place: Place) -> None:
    alone = Place(place.root, run="alone", settings=(*place.settings, "train.batch_size=10"))
    stopped = Place(place.root, run="stopped", settings=alone.settings)
    train(alone.context("train"), StopRequest())

    with pytest.raises(StageError, match="stopped by SIGTERM after epoch 0, step 17 of the next"):
        train(stopped.context("train"), _StopsAfter(17))
    train(stopped.context("train"), StopRequest())

    assert stopped.losses() == alone.losses()  # of 30 steps, to the last bit


class _StopsAfter(StopRequest):
    """Is asked before each step, and stops the training after so many of them."""

    requested = property(lambda self: next(self._answers), lambda self, value: None)  # type: ignore[context]

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._answers = chain(repeat(False, steps), repeat(True))


def test_training_that_diverges_says_what_to_change(place: Place) -> None:
    # Every step multiplies the weights by up to 1 - 10.
    settings = ("train.learning_rate=10", "train.weight_decay=1", "train.batch_size=10", "train.epochs=4")

    with pytest.raises(BadInput, match=r"training has diverged.*smaller --set train.learning_rate"):
        train(place.context("train", *settings), StopRequest())


@pytest.mark.parametrize("batch_size", [1, 299, 65536])
def test_any_batch_size_will_do(place: Place, batch_size: int) -> None:
    settings = ("model.name=cnn", f"train.batch_size={batch_size}", "train.epochs=1")

    assert train(place.context("train", *settings), StopRequest()).metrics["epochs"] == 1


def test_an_epoch_has_every_image_once_in_an_order_of_its_own(place: Place) -> None:
    config = place.context("train").config
    cpu = torch.device("cpu")
    first, second, again = (plan(config, epoch, 1000, cpu) for epoch in (0, 1, 0))

    assert first.order.sort().values.tolist() == list(range(1000))
    assert not torch.equal(first.order, second.order)
    assert torch.equal(first.order, again.order)


def test_images_are_varied_in_ways_that_leave_their_class(place: Place) -> None:
    cpu = torch.device("cpu")
    digits = plan(place.context("train").config, 0, 1000, cpu)
    clothes = plan(place.context("train", "data.name=fashion-mnist").config, 0, 1000, cpu)
    neither = plan(place.context("train", "train.augment=false").config, 0, 1000, cpu)

    assert digits.mirrored is None  # a 2 in a mirror is not a 2
    assert digits.moved is not None
    assert digits.moved.unique().tolist() == [-1, 0, 1]
    assert clothes.mirrored is not None
    assert 400 < int(clothes.mirrored.sum()) < 600
    assert (clothes.moved, neither.moved, neither.mirrored) == (None, None, None)


@pytest.mark.parametrize(
    ("settings", "mirrored"),
    [
        (("data.name=imagefolder", "data.folder=data/digits"), False),  # nobody knows what is in it
        (("data.name=imagefolder", "data.folder=data/clothes", "train.horizontal_flip=true"), True),
        (("data.name=fashion-mnist", "train.horizontal_flip=false"), False),
        (("data.name=mnist", "train.horizontal_flip=true"), True),
    ],
)
def test_images_are_mirrored_where_the_user_or_the_data_set_says_so(
    place: Place, settings: tuple[str, ...], mirrored: bool
) -> None:
    epoch = plan(place.context("train", "model.name=cnn", *settings).config, 0, 1000, torch.device("cpu"))

    assert (epoch.mirrored is not None) is mirrored


def test_mirroring_without_varying_or_without_images_is_refused(place: Place) -> None:
    for settings, reason in (
        (("train.augment=false",), "horizontal_flip is true but has no effect"),
        (
            ("data.name=blobs", "model.name=perceptron"),
            "horizontal_flip is for images, and data blobs has none",
        ),
    ):
        with pytest.raises(ConfigError, match=reason):
            place.context("train", "train.horizontal_flip=true", *settings)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_of_a_batch_is_moved_by_its_own_offset(channels: int) -> None:
    images = torch.randint(1, 256, (3, channels, 5, 4), dtype=torch.uint8)
    offsets = torch.tensor([[0, 0], [1, -2], [-1, 2]])

    found = moved(images, offsets, reach=2)

    assert torch.equal(found[0], images[0])
    assert torch.equal(found[1, :, :4, 2:], images[1, :, 1:, :2])  # up by one, right by two
    assert torch.equal(found[2, :, 1:, :2], images[2, :, :4, 2:])
    assert not found[1, :, 4].any()
    assert not found[1, :, :, :2].any()


def test_checkpoints_are_taken_by_how_far_they_are(place: Place) -> None:
    fence, folder = place.context("train").fence, place.folder.checkpoints
    for epoch, step in [(9, 0), (9, 120), (10, 0)]:
        save(fence, folder, Position(epoch=epoch, step=step), {"epoch": epoch, "step": step}, {})
        found = load_newest(folder, {}, limit=10**6)
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


def test_a_part_of_the_training_images_is_held_out_by_the_seed(place: Place) -> None:
    """It judges every epoch, and no epoch learns from it; the same seed holds out the same."""
    rows = {}
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        place.run = run
        ended = place.do("train", "--set", "train.validation_split=0.25", "--set", f"seed={seed}")
        assert ended.code == 0, ended.out
        assert "on 225 images" in ended.out
        assert "held out to validate every epoch: 75 images" in ended.out
        rows[run] = [
            json.loads(line)["val_accuracy"] for line in place.folder.history.read_text().splitlines()
        ]
        assert place.record("train").metrics["val_accuracy"] == rows[run][-1]
    assert rows["a"] == rows["b"]


def test_what_is_held_out_and_what_is_left_are_all_images() -> None:
    images, labels = torch.arange(10).view(10, 1, 1, 1), torch.arange(10)
    split = Split(images, labels, ("a",), {}, names=tuple("abcdefghij"))

    left = split.held_out(0.3, torch.Generator().manual_seed(0))

    held = left.validation
    assert held is not None
    assert (len(left), len(held)) == (7, 3)
    assert sorted([*left.labels.tolist(), *held.labels.tolist()]) == list(range(10))
    assert left.images[:].flatten().tolist() == left.labels.tolist()
    assert left.held_out(0.3, torch.Generator()) is left
    assert split.held_out(0, torch.Generator()) is split

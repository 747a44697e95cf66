"""Trainings that are killed, told to stop, or out of room: what was saved stays good."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reliability.kills import GRACE_SECONDS, Kind, Tally, Training, disturb
from tests.support.volume import REPOSITORY, Place, small_volume

SETTINGS = ("model.name=mnist-hogwild-net", "train.epochs=3", "train.batch_size=64")


def test_row_51_a_save_that_is_killed_at_any_step_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    program = (
        "import json, sys; from pathlib import Path; from benchmarks.reliability import kills; "
        "print(json.dumps(kills.every_step(Path(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    results = json.loads(done.stdout)

    assert [result["killed"] for result in results] == [True] * (len(results) - 1) + [False]
    assert len(results) > 12  # two files, each opened, synced, renamed; two removed
    loaded = [result["loaded"] for result in results]
    new = loaded.index([3, 3])
    assert loaded == [[2, 2]] * new + [[3, 3]] * (len(results) - new)
    for result in results:  # and the next save clears up
        before = result["loaded"][0]
        kept = [f"epoch-000{epoch}.{kind}" for epoch in (before, 4) for kind in ("json", "pt")]
        assert result["left"] == kept


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    undisturbed = Training(tmp_path_factory.mktemp("kills") / "volume", SETTINGS)
    undisturbed.finish()
    return undisturbed.model


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(["at a random moment"] * 3 + ["in a save"] * 3, id="row_51_killed"),
        pytest.param(["SIGTERM"] * 4, id="row_54_told_to_stop"),
    ],
)
def test_rows_51_and_54_a_disturbed_training_ends_with_the_weights_of_an_undisturbed_one(
    tmp_path: Path, expected: bytes, kinds: list[Kind]
) -> None:
    random.seed(len(kinds))
    asked, tally = list(kinds), Tally()
    while asked:
        disturb(Training(tmp_path / str(tally.trainings), SETTINGS), expected, asked, 5, tally)
        assert tally.failures == []

    assert tally.with_other_weights == 0
    assert tally.kills + tally.terms == len(kinds)
    assert max(tally.epochs_lost) <= 0  # no epoch that was told of, and so at most a part of one
    assert max(tally.term_seconds, default=0) < GRACE_SECONDS


@pytest.mark.parametrize("room", [0, 64 * 1024], ids=["none", "too-little-for-a-checkpoint"])
def test_row_53_a_full_volume_leaves_what_was_good_and_with_room_it_goes_on(
    tmp_path: Path, room: int
) -> None:
    with small_volume(tmp_path / "small", "2m") as (root, fill):
        place = Place(root, settings=("model.name=perceptron", "train.epochs=1"))
        assert place.do("train").code == 0
        names = ("model.pt", "model.json", "history.jsonl")
        good = [*place.folder.checkpoints.iterdir(), *(place.folder.path / name for name in names)]
        before = {path: path.read_bytes() for path in good}
        filler = fill(leave=room)

        ended = place.do("train", "--set", "train.epochs=2")

        assert ended.code == 1
        assert f"train: cannot write {root}" in ended.out
        assert "No space left on device" in ended.out
        assert "make room on the volume and start the stage again" in ended.out
        assert before.items() <= {path: path.read_bytes() for path in good}.items()
        filler.unlink()

        again = place.do("train", "--set", "train.epochs=2")
        assert again.code == 0
        assert "resuming from epoch 1" in again.out
        assert place.record("train").status == "succeeded"

"""All stages in one process tree, as `docker run IMAGE` has them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from jobrelay_train.__main__ import in_full
from tests.support.volume import REPOSITORY, Place, clean_environment, finish, read_until


def test_run_all_trains_tests_and_infers(place: Place) -> None:
    ended = place.do("run-all")

    assert ended.code == 0, ended.out + ended.err
    assert [place.record(stage).status for stage in ("train", "eval", "infer")] == ["succeeded"] * 3
    assert ended.out.splitlines()[-1] == f"results are in {place.folder.path}"
    again = place.do("run-all")
    assert again.code == 0
    assert "epoch 1/" not in again.out  # what is done is not done again


def test_without_a_command_it_is_run_all(place: Place) -> None:
    environment = {**clean_environment(), "JOBRELAY_VOLUME": str(place.root), "JOBRELAY_RUN": "docker"}
    options = [part for setting in place.settings for part in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "jobrelay_train", *options],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert (place.root / "runs" / "docker" / "predictions.json").exists()


def test_a_stage_that_fails_ends_it_with_its_exit_code(place: Place) -> None:
    (place.root / "data" / "mnist" / "t10k-images-idx3-ubyte").write_bytes(b"damaged")
    ended = place.do("run-all")

    assert ended.code == 78, ended.out
    assert place.record("train").status == "succeeded"
    assert not place.folder.record("infer").exists()
    assert "results are in" not in ended.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_stage_and_no_other_follows(place: Place, number: signal.Signals) -> None:
    long = Place(place.root, settings=(*place.settings, "train.epochs=500", "train.batch_size=5"))
    process = long.start("run-all")
    read_until(process, b"epoch 2/500")
    process.send_signal(number)
    ended = finish(process)

    assert ended.code == 128 + signal.SIGTERM, ended.out  # for a stage, both mean the same
    assert any(long.folder.checkpoints.glob("*.pt"))
    assert not long.folder.record("eval").exists()


@pytest.mark.parametrize(
    ("override", "command", "meant"),
    [
        ("epochs=10", "train", "train.epochs=10"),
        ("train.epochs=10", "train", "train.epochs=10"),
        ("seed=3", "train", "seed=3"),
        ("data={name: mnist}", "train", "data={name: mnist}"),
        ("samples=all", "infer", "infer.samples=all"),
        ("epoch=10", "train", "train.epoch=10"),  # no key of train's, and so it is told what is one
        ("epochs=10", "run-all", "epochs=10"),
    ],
)
def test_a_stage_s_own_keys_may_be_short(override: str, command: str, meant: str) -> None:
    assert in_full(override, command) == meant

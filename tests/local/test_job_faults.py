"""Faults of the volume and of what lies on it, seen through the launcher."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.support import PATIENCE, QUICK, REPOSITORY, Place
from tests.support.volume import clean_environment, every_process, read_until, small_volume

LONGER = ("--set", "model.name=perceptron", "--set", "train.epochs=12")


def test_row_55_a_model_that_was_swapped_is_not_tested(place: Place, tmp_path: Path) -> None:
    place.run("run", "train", "--run", "a", *QUICK)
    model = tmp_path / "volume/runs/a/model.pt"
    state = torch.load(model, weights_only=True)
    torch.save({name: torch.zeros_like(tensor) for name, tensor in state.items()}, model)
    shutil.rmtree(model.with_name("checkpoints"))  # of which it would be made again

    result = place.run("run", "eval", "--run", "a", *QUICK, expect=7)

    assert "model.pt is not the file that train.json of this run records" in result.err
    assert not (tmp_path / "volume/runs/a/eval_results.json").exists()
    assert "launcher delete a" in result.err

    place.run("delete", "a")  # what it says helps
    place.run("run-all", "--run", "a", *QUICK)


class _Hostile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def test_row_56_a_hostile_checkpoint_is_refused_and_not_tried_again(place: Place, tmp_path: Path) -> None:
    place.run("run", "train", "--run", "a", *QUICK)
    place.run("delete", "a")
    trace = tmp_path / "was-run"
    weights = tmp_path / "volume/runs/a/checkpoints/epoch-0001.pt"
    buffer = io.BytesIO()
    torch.save({"model": _Hostile(trace)}, buffer)
    weights.write_bytes(buffer.getvalue())
    sidecar = json.loads(weights.with_suffix(".json").read_text())
    sidecar.update(sha256=hashlib.sha256(buffer.getvalue()).hexdigest(), bytes=len(buffer.getvalue()))
    weights.with_suffix(".json").write_text(json.dumps(sidecar))

    more = ("--set", "model.name=perceptron", "--set", "train.epochs=2", "-o", "json")
    result = place.run("run", "train", "--run", "a", *more, expect=2)

    assert "epoch-0001.pt is what epoch-0001.json records, but it was not written by this program" in (
        result.err
    )
    assert result.json()["stages"][0]["pods"] == 1
    assert not trace.exists()


def test_row_53_a_full_volume_is_a_failure_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with small_volume(tmp_path / "small", "2m") as (root, fill):
        place = Place(["--local", "--volume", str(root)], tmp_path / "work")
        place.run("run", "train", "--run", "a", *QUICK)
        place.run("delete", "a")
        good = {path: path.read_bytes() for path in (root / "runs/a/checkpoints").iterdir()}
        filler = fill(leave=80 * 1024)  # too little for a checkpoint, enough for what the launcher keeps
        more = ("--set", "model.name=perceptron", "--set", "train.epochs=2", "--set", "train.backoff_limit=0")

        result = place.run("run", "train", "--run", "a", *more, expect=1)

        assert "No space left on device" in result.err
        assert "make room on the volume and start the stage again" in result.err
        assert {path: path.read_bytes() for path in good} == good
        filler.unlink()
        assert "resuming from epoch 1" in place.run("run", "train", "--run", "a", *more).err


def test_row_34_a_program_that_was_started_twice_has_one_result(place: Place, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    first = _jobs(volume, "earlier", *LONGER)
    read_until(first, b"epoch 2/12")
    for pid in every_process(first):  # or it might have ended before the second has begun
        os.kill(pid, signal.SIGSTOP)
    second = _jobs(volume, "later", *LONGER)
    seen = read_until(second, b"resuming from epoch ")
    for pid in every_process(first):
        os.kill(pid, signal.SIGCONT)
    first_out, _ = first.communicate(timeout=PATIENCE)
    second_out, _ = second.communicate(timeout=PATIENCE)

    assert (first.returncode, second.returncode) == (75, 0), first_out + seen + second_out
    assert b"another process of this stage has taken over (later, since " in first_out
    run = json.loads((volume / "runs/a/train.json").read_text())
    assert (run["status"], run["pod"]) == ("succeeded", "later")
    listed = place.run("list", "--recorded", "-o", "json").json()
    assert [row["run"] for row in listed] == ["a"]
    fetched = tmp_path / "fetched"
    place.run("fetch", "a", "-o", str(fetched), "--all")
    assert (
        hashlib.sha256((fetched / "model.pt").read_bytes()).hexdigest()
        == (run["outputs"]["model.pt"]["sha256"])
    )
    assert not list(fetched.rglob("*.partial"))


def _jobs(volume: Path, pod: str, *settings: str) -> subprocess.Popen[bytes]:
    """`python -m jobrelay_train train`, as a container starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobrelay_train", "train", "--run", "a", "--volume", str(volume), *settings],
        cwd=REPOSITORY,
        env={**clean_environment(), "JOBRELAY_POD": pod},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

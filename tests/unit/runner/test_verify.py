"""Whether a run on the volume is complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import FileDigest, Record
from jobrelay_runner.volume.verify import check_run
from jobrelay_train.config.schema import STAGES

OUTPUTS = {
    "train": ["model.pt"],
    "eval": ["eval_results.json"],
    "infer": ["predictions.json", "results/a_dress.png", "results/b_bag.png"],
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A complete run, as its stages leave it."""
    folder = RunFolder(tmp_path, "a")
    folder.results.mkdir(parents=True)
    folder.checkpoints.mkdir()
    for number in (4, 5):
        weights = folder.checkpoints / f"epoch-{number:04}.pt"
        weights.write_bytes(b"weights" * number)
        weights.with_suffix(".json").write_text(FileDigest.of(weights).to_json())
    results = {"test_acc": 0.9, "correct": 9, "samples": 10, "class_names": ["a", "b"]}
    for stage in STAGES:
        for name in OUTPUTS[stage]:
            content = json.dumps(results) if name == "eval_results.json" else name
            (folder.path / name).write_text(content)
        _record(folder, stage)
    return folder


def _record(folder: RunFolder, stage: str, status: str = "succeeded") -> None:
    outputs = {name: FileDigest.of(folder.path / name) for name in OUTPUTS[stage]}
    record = Record(
        run="a", stage=stage, status=status, pod="p", config_hash="0" * 64, started="",
        pipeline=list(STAGES), outputs=outputs,
    )  # type: ignore[arg-type]  # fmt: skip
    folder.record(stage).write_text(record.to_json())


def test_a_complete_run_is_told_with_what_there_is(run: RunFolder) -> None:
    found = check_run(run)

    assert all(check.good for check in found), found
    assert {check.what: check.found for check in found} == {
        "train": "succeeded; 1 file as train.json says",
        "eval": "succeeded; 1 file as eval.json says",
        "infer": "succeeded; 3 files as infer.json says",
        "checkpoint": "checkpoints/epoch-0005.pt (0.0 MB)",
        "eval_results.json": "test acc 0.9000 (9 of 10)",
        "pictures": "2 in results/",
    }
    assert [check.content["samples"] for check in found if check.content] == [10]


def test_of_a_damaged_checkpoint_the_one_before_counts(run: RunFolder) -> None:
    (run.checkpoints / "epoch-0005.pt").write_bytes(b"weights" * 4 + b"damaged")

    (found,) = (check for check in check_run(run) if check.what == "checkpoint")

    assert (found.good, found.found.split()[0]) == (True, "checkpoints/epoch-0004.pt")


def _no_checkpoint(run: RunFolder) -> None:
    for path in run.checkpoints.iterdir():
        path.unlink()


def _half_checkpoints(run: RunFolder) -> None:
    for path in run.checkpoints.glob("*.pt"):
        path.unlink()


@pytest.mark.parametrize(
    ("harm", "bad"),
    [
        (_no_checkpoint, {"checkpoint": "there is none"}),
        (_half_checkpoints, {"checkpoint": "none is intact"}),
        (
            lambda run: run.model.write_bytes(b"other"),
            {"train": "differs from what train.json records: model.pt"},
        ),
        (lambda run: _record(run, "train", "running"), {"train": "running: it has not ended"}),
        (lambda run: run.record("eval").unlink(), {"eval": "no record: it has not run"}),
        (
            lambda run: run.eval_results.unlink(),
            {
                "eval": "differs from what eval.json records: eval_results.json",
                "eval_results.json": "No such file or directory",
            },
        ),
        (
            lambda run: (run.results / "a_dress.png").unlink(),
            {
                "infer": "differs from what infer.json records: results/a_dress.png",
                "pictures": "1 in results/, infer.json has 2",
            },
        ),
        (
            lambda run: (run.results / "c_bag.png").touch(),
            {"pictures": "3 in results/, infer.json has 2"},
        ),
    ],
    ids=[
        "no-checkpoint",
        "no-weights",
        "model",
        "running",
        "no-record",
        "no-results",
        "no-picture",
        "one-more",
    ],
)
def test_what_is_missing_or_another_one_is_named(
    run: RunFolder, harm: Callable[[RunFolder], object], bad: dict[str, str]
) -> None:
    harm(run)

    assert {check.what: check.found for check in check_run(run) if not check.good} == bad


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"test_acc": "high"}'])
def test_results_that_eval_did_not_write_are_told(run: RunFolder, content: str) -> None:
    run.eval_results.write_text(content)

    (found,) = (check for check in check_run(run) if check.what == "eval_results.json")

    assert not found.good
    assert found.found.startswith("is not what eval writes")


def test_a_checkpoint_within_an_epoch_is_newer_than_the_one_before_that_epoch(run: RunFolder) -> None:
    for name in ("epoch-0005-step-00042", "epoch-0005-step-00007"):
        weights = run.checkpoints / f"{name}.pt"
        weights.write_bytes(name.encode())
        weights.with_suffix(".json").write_text(FileDigest.of(weights).to_json())
    (run.checkpoints / "epoch-0009-of-somebody.json").write_text("{}")

    (found,) = (check for check in check_run(run) if check.what == "checkpoint")

    assert found.found.split()[0] == "checkpoints/epoch-0005-step-00042.pt"

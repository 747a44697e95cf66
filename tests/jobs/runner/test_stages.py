"""train, eval, infer and wait as a container runs them: exit codes, files, records."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from jobrelay_runner.volume.inputs import changed
from jobrelay_runner.volume.record import FileDigest, differing, parse_closing
from jobrelay_train.config.loading import load_config
from jobrelay_train.config.schema import STAGES
from tests.support.volume import REPOSITORY, Place, clean_environment, finish, read_until


def test_a_whole_run(place: Place) -> None:
    for stage in STAGES:
        ended = place.do(stage)
        assert (ended.code, ended.err) == (0, ""), ended.out

        record = place.record(stage)
        assert record.status == "succeeded"
        assert record.config_hash == load_config(None, place.settings).stage_hash(stage)
        assert differing(place.folder.path, record.outputs) == []
        assert record.inputs
        assert changed(place.folder, record) == []
        assert record.log is not None
        assert (place.folder.path / record.log.file).read_bytes() == ended.raw
        assert record.versions["torch"]
    outputs = {stage: sorted(place.record(stage).outputs) for stage in STAGES}
    assert outputs["train"] == ["history.jsonl", "model.json", "model.pt"]
    assert outputs["eval"] == ["eval_results.json"]
    assert outputs["infer"] == [
        "inference.json",
        "predictions.json",
        *sorted(f"results/{name}" for name in _pictures(place)),
    ]
    assert len(_pictures(place)) == 5
    assert {"loss", "accuracy", "epochs", "images_per_second"} == set(place.record("train").metrics)
    assert {"test_loss", "test_acc", "images_per_second"} == set(place.record("eval").metrics)
    assert {
        "samples",
        "correct",
        "images_per_second",
        "latency_p50_ms",
        "latency_p99_ms",
        "batch_size",
    } == set(place.record("infer").metrics)
    config = load_config(place.folder.config)
    assert config.result_config() == load_config(None, place.settings).result_config()
    assert list(place.root.rglob("*.partial")) == []


def test_training_prints_one_line_an_epoch_and_keeps_the_same_in_its_history(trained_once: Place) -> None:
    log = trained_once.folder.log("train", "local").read_text().splitlines()
    history = [json.loads(line) for line in trained_once.folder.history.read_text().splitlines()]

    assert [line[:10] for line in log if line.startswith("epoch ")] == ["epoch 1/2 ", "epoch 2/2 "]
    assert [row["epoch"] for row in history] == [1, 2]
    assert set(history[0]) == {
        "epoch", "loss", "accuracy", "seconds", "images_per_second", "learning_rate",
    }  # fmt: skip
    assert f"loss {history[1]['loss']:.4f}  acc {history[1]['accuracy']:.4f}" in log[-2]
    assert history[1]["loss"] < history[0]["loss"]


def test_the_model_in_the_box_learns_the_data_in_the_box(tmp_path: Path) -> None:
    place = Place(tmp_path / "volume", settings=("train.epochs=2",))

    for stage in STAGES:
        ended = place.do(stage)
        assert ended.code == 0, ended

    assert place.record("eval").metrics["test_acc"] >= 0.8
    assert "torchvision" not in place.record("train").versions  # half a second that nobody has to wait
    assert not (place.root / "data").exists()


def test_what_is_done_is_not_done_again(trained: Place) -> None:
    before = trained.folder.record("train").read_bytes()

    ended = trained.do("train")

    assert ended.code == 0
    assert ended.out.startswith("train: nothing to do: done on")
    assert trained.folder.record("train").read_bytes() == before


def test_a_changed_output_is_made_again_from_the_checkpoint(trained: Place) -> None:
    model = trained.folder.model
    before = model.read_bytes()
    model.write_bytes(before[:-1])

    ended = trained.do("train")

    assert ended.code == 0
    assert "model.pt changed since; the stage runs again" in ended.out
    assert "resuming from epoch 2 (checkpoints/epoch-0002.pt)" in ended.out
    assert model.read_bytes() == before


def test_more_epochs_go_on_from_the_newest_checkpoint(trained: Place) -> None:
    ended = trained.do("train", "--set", "train.epochs=3")

    assert ended.code == 0
    assert "resuming from epoch 2" in ended.out
    epochs = [json.loads(line)["epoch"] for line in trained.folder.history.read_text().splitlines()]
    assert epochs == [1, 2, 3]
    assert "epoch 2/3" not in ended.out
    assert "epoch 3/3" in ended.out


def test_row_54_sigterm_saves_and_the_next_attempt_ends_with_the_same_weights(
    long_run: Place, undisturbed: tuple[bytes, str]
) -> None:
    process = long_run.start("train")
    read_until(process, b"epoch 3/8")
    process.send_signal(signal.SIGTERM)
    ended = finish(process)

    assert ended.code == 143
    assert "train: stopped by SIGTERM after epoch " in ended.out
    record = long_run.record("train")
    assert (record.status, record.exit_code) == ("failed", 143)
    (saved,) = [word for word in ended.out.split() if word.startswith("checkpoints/")]
    assert (long_run.folder.path / saved).exists()

    again = long_run.do("train")

    assert again.code == 0
    assert f"({saved})" in again.out
    assert "epoch 3/8" not in again.out  # what is done is not done again
    assert long_run.record("train").attempt == 2
    assert (long_run.folder.model.read_bytes(), long_run.losses()) == undisturbed


def test_row_51_sigkill_costs_no_more_than_the_epoch_it_hits(
    long_run: Place, undisturbed: tuple[bytes, str]
) -> None:
    process = long_run.start("train")
    read_until(process, b"epoch 3/8")
    process.kill()
    finish(process)
    assert long_run.record("train").status == "running"

    again = long_run.do("train")

    assert again.code == 0
    assert "resuming from epoch " in again.out
    assert long_run.record("train").attempt == 2
    assert (long_run.folder.model.read_bytes(), long_run.losses()) == undisturbed


def test_row_51_a_stage_that_the_kernel_kills_has_a_record_and_is_resumed(
    long_run: Place, undisturbed: tuple[bytes, str]
) -> None:
    process = long_run.start("train")
    read_until(process, b"epoch 3/8")
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    os.kill(int(found.stdout), signal.SIGKILL)
    ended = finish(process)

    assert ended.code == 137
    assert long_run.record("train").status == "failed"
    assert "killed by signal 9 (out of memory?)" in (long_run.record("train").error or "")

    assert long_run.do("train").code == 0
    assert (long_run.folder.model.read_bytes(), long_run.losses()) == undisturbed


def test_row_53_a_full_disk_ends_training_and_leaves_what_was_good(trained: Place) -> None:
    before = {path: path.read_bytes() for path in trained.folder.checkpoints.iterdir()}
    # Files of more than 64 KiB are refused as by a full disk: a checkpoint, but not the log and the record.
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )

    ended = finish(trained.start("train", "--set", "train.epochs=3", python=("-c", limited)))

    assert ended.code == 1
    assert "make room on the volume" in ended.out
    assert {path: path.read_bytes() for path in trained.folder.checkpoints.iterdir()} == before
    assert trained.record("train").status == "failed"
    assert trained.do("train", "--set", "train.epochs=3").code == 0


def test_a_run_that_is_deleted_while_it_is_at_work(long_run: Place) -> None:
    process = long_run.start("train")
    read_until(process, b"epoch 1/8")
    gone = long_run.folder.path.rename(long_run.root / "gone")
    ended = finish(process)

    assert ended.code == 1
    assert f"train: {long_run.folder.path} is gone from the volume" in ended.out
    assert "Traceback" not in ended.out + ended.err
    assert not long_run.folder.path.exists()
    assert gone.exists()


@pytest.mark.parametrize("stage", ["eval", "infer"])
def test_row_55_another_model_than_the_recorded_one_is_refused(trained: Place, stage: str) -> None:
    content = bytearray(trained.folder.model.read_bytes())
    content[len(content) // 2] ^= 1
    trained.folder.model.write_bytes(content)
    shutil.rmtree(trained.folder.checkpoints)  # of which it could be made again

    ended = trained.do(stage)

    assert ended.code == 65
    assert "delete the Jobs of run a (its files stay) and start the run again" in ended.out
    assert "python -m jobrelay_train" not in ended.out
    assert f"{stage}: {trained.folder.model} is not the file that train.json of this run records" in ended.out
    assert not trained.folder.eval_results.exists()
    assert not trained.folder.results.exists()


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_row_55_a_damaged_model_is_made_again_from_a_checkpoint(trained: Place, damage: str) -> None:
    """It has the hash that train has recorded, or it is not taken."""
    model = trained.folder.model
    expected = model.read_bytes()
    if damage == "gone":
        model.unlink()
    else:
        model.write_bytes(expected[:-10] if damage == "cut" else b"\1" + expected[1:])

    ended = trained.do("eval")

    assert ended.code == 0, ended.out
    assert "warning: model.pt is " in ended.out
    assert "; restored from checkpoints/epoch-0002.pt" in ended.out
    assert model.read_bytes() == expected


@pytest.mark.parametrize("stage", ["eval", "infer"])
def test_without_training_there_is_nothing_to_test(place: Place, stage: str) -> None:
    ended = place.do(stage)

    assert ended.code == 65
    assert (
        f"{place.folder.record('train')} is missing; stage train of this run should have created it"
        in ended.out
    )


def test_a_model_of_other_settings_is_refused_by_the_key(trained: Place) -> None:
    ended = trained.do("eval", "--set", "train.epochs=9")

    assert ended.code == 65
    assert "train.epochs: was 2, is 9" in ended.out


def test_pictures_of_an_earlier_pass_do_not_stay(trained: Place) -> None:
    trained.do("infer", "--set", "infer.samples=7")
    assert len(_pictures(trained)) == 7

    ended = trained.do("infer", "--set", "infer.samples=3")

    assert ended.code == 0
    predictions = json.loads(trained.folder.predictions.read_text())
    assert sorted(prediction["file"] for prediction in predictions) == sorted(
        f"results/{name}" for name in _pictures(trained)
    )
    assert len(predictions) == 3
    for prediction in predictions:
        name = Path(prediction["file"]).name
        assert name == f"{prediction['index']:05}_{prediction['predicted_name']}.png"
        assert prediction["correct"] == (prediction["predicted"] == prediction["true"])
        assert prediction["probability"] == max(prediction["probabilities"])
        with Image.open(trained.folder.path / prediction["file"]) as picture:
            assert picture.width >= 224
            picture.load()


def test_no_more_pictures_than_there_are_images(trained: Place) -> None:
    assert trained.do("infer", "--set", "infer.samples=10000").code == 0
    assert trained.record("infer").metrics["samples"] == 80


def test_a_configuration_error_touches_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("train: {epoch: 3, batch_size: 0}\nseed: -1\n")
    message = tmp_path / "message"
    place = Place(
        tmp_path / "volume", settings=(), environment={"JOBRELAY_TERMINATION_MESSAGE": str(message)}
    )

    ended = place.do("train", "--config", str(config))

    assert ended.code == 78
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 3
    assert any("train.epoch: unknown key; did you mean train.epochs?" in line for line in lines)
    assert message.read_text().startswith("configuration error: ")
    assert not place.root.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--run", "Not/a/label"], "--run 'Not/a/label'"),
        (["train"], "give --run ID or set JOBRELAY_RUN"),
        (["train", "--run", "a", "--config", "absent.yaml"], "absent.yaml: No such file"),
        (["train", "--run", "a", "--set", "train.epochs"], "expected key=value"),
        (["dance"], "invalid choice: 'dance'"),
        (["wait", "--run", "a"], "stage"),
        ([], "give --run ID or set JOBRELAY_RUN"),
    ],
)
def test_arguments_that_cannot_work_are_configuration_errors(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    ended = _python("-m", "jobrelay_train", *arguments, volume=tmp_path / "volume")

    assert ended.returncode == 78
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "volume").exists()


def test_environment_is_used_where_options_are_not_given(place: Place) -> None:
    config = place.root.parent / "config.yaml"
    config.write_text(yaml.safe_dump({"data": {"name": "mnist"}, "model": {"name": "perceptron"}}))
    message = place.root.parent / "message"

    ended = _python(
        "-m", "jobrelay_train", "train", "--set", "train.epochs=1", volume=place.root,
        JOBRELAY_RUN="a", JOBRELAY_CONFIG=str(config), JOBRELAY_POD="a-train-x7k2p",
        JOBRELAY_TERMINATION_MESSAGE=str(message),
    )  # fmt: skip

    assert ended.returncode == 0, ended
    assert place.record("train").pod == "a-train-x7k2p"
    assert place.folder.log("train", "a-train-x7k2p").read_text() == ended.stdout
    closing = parse_closing(message.read_text())
    assert closing is not None
    assert closing.metrics == place.record("train").metrics


def test_the_gate_opens_for_a_stage_that_has_succeeded(trained: Place) -> None:
    ended = trained.do("wait", "train")

    assert (ended.code, ended.out) == (0, "run a, stage train has succeeded\n")


def test_row_54_the_gate_ends_at_once_on_sigterm(place: Place) -> None:
    process = place.start("wait", "train")
    read_until(process, b"waiting for run a, stage train")
    process.send_signal(signal.SIGTERM)

    assert finish(process).code == 143
    assert not place.folder.path.exists()


def test_only_the_process_of_the_stage_imports_torch(tmp_path: Path) -> None:
    modules = "jobrelay_train.__main__, jobrelay_runner.order.gate, jobrelay_runner.supervisor"
    program = f"import sys, {modules}; sys.exit('torch' in sys.modules)"

    assert _python("-c", program, volume=tmp_path).returncode == 0


def test_the_record_proves_the_files_of_the_data_set(trained_once: Place) -> None:
    inputs = trained_once.record("train").inputs

    assert inputs == {
        f"../../data/mnist/train-{kind}": FileDigest.of(
            trained_once.root / "data" / "mnist" / f"train-{kind}"
        )
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    }


def _python(*arguments: str, volume: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**clean_environment(), "JOBRELAY_VOLUME": str(volume), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def _pictures(place: Place) -> list[str]:
    return [path.name for path in place.folder.results.iterdir()]

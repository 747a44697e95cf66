"""The behaviour that both executors must have.

The fixture `place` (of tests/local and tests/cluster) selects the executor. Every test has its own volume
and, on a cluster, its own namespace.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.support import (
    PATIENCE,
    QUICK,
    REPOSITORY,
    Object,
    Place,
    eventually,
    pod_spec,
    programs,
    set_command,
    write_manifests,
)

HOSTILE_LOG = (
    b"\xe2\x96 torn \x88\r over\rwritten\n\x00\x1b[2J\n\n\n" + b"x" * 9000 + b"\nno newline at the end"
)


def near_its_end(then: str) -> Callable[[str, Object], None]:
    """A train that reports it is near its end, waits until eval has started early, and then runs `then`."""
    program = f"""
import os, pathlib, time
print("epoch 1/1  loss 0.5  acc 0.5  0.1 s ", flush=True)
logs = pathlib.Path(os.environ["JOBRELAY_VOLUME"], "runs", os.environ["JOBRELAY_RUN"], "logs")
while not list(logs.glob("eval-*.log")):
    time.sleep(0.1)
{then}
"""

    def change(stage: str, job: Object) -> None:
        if stage == "train":
            set_command(job, ["python", "-c", program])
            job["spec"]["backoffLimit"] = 0

    return change


class Conformance:
    """The conformance tests; each test folder has one class that inherits them."""

    # --- a run that succeeds ---

    def test_run_all_brings_results_and_logs_home(self, place: Place) -> None:
        report = place.run("run-all", "--run", "good", "-o", "json", *QUICK).json()

        assert [stage["verdict"]["outcome"] for stage in report["stages"]] == ["succeeded"] * 3
        assert all(stage["log_complete"] for stage in report["stages"])
        home = place.folder / "runs" / "good"
        results = json.loads((home / "eval_results.json").read_text())
        assert results["test_acc"] == report["stages"][1]["metrics"]["test_acc"]
        assert results["test_acc"] > 0.5  # ten classes: a guess is 0.1
        assert len(list((home / "results").glob("*.png"))) == 5
        assert f"{100 * results['test_acc']:.2f}%" in (home / "report.html").read_text()
        for stage in ("train", "eval", "infer"):
            record = json.loads((home / f"{stage}.json").read_text())
            log = (home / record["log"]["file"]).read_bytes()
            assert hashlib.sha256(log).hexdigest() == record["log"]["sha256"]
            assert log.count(b"\n") == record["log"]["lines"] > 0
        assert not (home / "checkpoints").exists()

    def test_the_same_command_again_skips(self, place: Place) -> None:
        first = place.run("run-all", "-o", "json", *QUICK).json()
        again = place.run("run-all", "-o", "json", *QUICK).json()

        assert again["run"] == first["run"]
        assert [stage["how"] for stage in again["stages"]] == ["complete"] * 3
        assert [s["verdict"]["pod"] for s in again["stages"]] == [
            s["verdict"]["pod"] for s in first["stages"]
        ]
        assert len(place.run("list", "-o", "name").out.split()) == 1

    def test_a_complete_stage_whose_job_is_gone_ends_at_once(self, place: Place) -> None:
        place.run("run-all", "--run", "a", *QUICK)
        before = (place.folder / "runs/a/train.json").read_bytes()
        place.run("delete", "a")
        result = place.run("run-all", "--run", "a", *QUICK)

        assert "complete already" in result.err
        assert (place.folder / "runs/a/train.json").read_bytes() == before

    def test_more_epochs_resume_from_the_checkpoint(self, place: Place) -> None:
        place.run("run-all", "--run", "a", "--set", "model.name=perceptron", "--set", "train.epochs=1")
        place.run("delete", "a")
        result = place.run(
            "run-all", "--run", "a", "--set", "model.name=perceptron", "--set", "train.epochs=2"
        )

        assert "resuming from epoch 1" in result.err
        history = (place.folder / "runs/a/history.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in history] == [1, 2]

    def test_one_stage_alone(self, place: Place) -> None:
        place.run("run", "train", "--run", "a", *QUICK)
        rows = place.run("status", "a", "-o", "json").json()

        assert [row["stage"] for row in rows] == ["train"]
        assert rows[0]["state"] == "succeeded"

    def test_eval_without_a_model_names_the_stage_that_makes_it(self, place: Place) -> None:
        result = place.run("run", "eval", "--run", "a", *QUICK, expect=7)

        assert "train" in result.err
        assert "eval failed" in result.err

    # --- a run that does not ---

    def test_row_26_a_failing_stage_ends_the_run(self, place: Place) -> None:
        folder = programs(place.folder / "m", eval="print('on the way'); raise SystemExit(42)")
        result = place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch", expect=1)

        assert "exit code 42" in result.err
        assert "eval │ on the way" in result.err
        assert "infer was here" not in result.err
        assert {row["stage"] for row in place.run("status", "a", "-o", "json").json()} == {"train", "eval"}

    def test_row_22_a_command_that_is_not_in_the_image(self, place: Place) -> None:
        folder = write_manifests(place.folder / "m", lambda stage, job: set_command(job, ["/nope"]))
        result = place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch", expect=3)

        assert "/nope" in result.err
        assert "could not start" in result.err

    def test_row_29_out_of_time(self, place: Place) -> None:
        folder = programs(place.folder / "m", train="import time; print('begun', flush=True); time.sleep(60)")
        result = place.run(
            "run-all", "--run", "a", "-k", str(folder), "--no-fetch", "--timeout", "4", expect=4
        )

        assert "DeadlineExceeded" in result.err
        assert "train │ begun" in result.err
        log = next((place.folder / "runs/a/logs").glob("train-*.log"))
        assert log.read_text().startswith("begun\n")

    def test_row_26_a_refused_configuration_is_not_tried_again(self, place: Place) -> None:
        def refuse(stage: str, job: Object) -> None:
            pod_spec(job)["containers"][0]["args"] = [stage, "--set", "train.epochs=none"]

        folder = write_manifests(place.folder / "m", refuse)
        result = place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch", "-o", "json", expect=2)

        # a server older than 1.26 cannot be told beforehand, and may have begun a second one
        assert result.json()["stages"][0]["pods"] <= 2
        assert "configuration error: train.epochs" in result.err

    def test_row_26_an_exit_code_of_a_users_own_program_is_no_code_of_ours(self, place: Place) -> None:
        """JobRelay uses 75 for "another process has taken over", and does not count such a Pod."""

        def program(stage: str, job: Object) -> None:
            set_command(job, ["python", "-c", "print('try later'); raise SystemExit(75)"])
            job["spec"]["backoffLimit"] = 1

        folder = write_manifests(place.folder / "m", program)
        result = place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch", "-o", "json", expect=1)
        (stage,) = result.json()["stages"]
        assert (stage["pods"], stage["verdict"]["container_exit"]) == (2, 75)
        lines = result.err.splitlines()
        assert "  train: attempt 1 of 2 failed: exit code 75: try later; attempt 2 of 2 follows" in lines
        assert "✗ train  failed, attempt 2 of 2: exit code 75: try later" in lines

    def test_row_26_the_stages_line_names_the_cause(self, place: Place) -> None:
        folder = programs(
            place.folder / "m", train="print('ValueError: bad batch\\nbye'); raise SystemExit(1)"
        )
        result = place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch", expect=1)
        assert "✗ train  failed: exit code 1: ValueError: bad batch" in result.err.splitlines()
        assert "exit code 1: ValueError: bad batch" in place.run("status", "a").out

    def test_row_50_the_stages_container_may_be_called_anything(self, place: Place) -> None:
        """Another container comes before it if the kubelet sorts them by name."""

        def two(stage: str, job: Object) -> None:
            set_command(job, ["python", "-c", f"print('{stage} itself')"])
            job["spec"]["backoffLimit"] = 0
            (own,) = pod_spec(job)["containers"]
            other = {**own, "name": "a-helper", "command": ["python", "-c", "print('only a helper')"]}
            own["name"] = "main"
            pod_spec(job)["containers"].append(other)

        folder = write_manifests(place.folder / "m", two)
        result = place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch")
        assert "train │ train itself" in result.err
        assert "only a helper" not in result.err

    def test_a_retry_that_succeeds(self, place: Place) -> None:
        program = """
            import pathlib, os, sys
            marker = pathlib.Path(os.environ["JOBRELAY_VOLUME"], "marker")
            if not marker.exists():
                marker.touch()
                sys.exit("first attempt")
            print("second attempt")
        """
        folder = programs(place.folder / "m", train=program)
        report = place.run(
            "run-all", "--run", "a", "-k", str(folder), "--no-fetch", "-o", "json",
            "--set", "train.backoff_limit=1",
        )  # fmt: skip

        assert report.json()["stages"][0]["pods"] == 2
        logs = sorted(path.read_text() for path in (place.folder / "runs/a/logs").glob("train-*.log"))
        assert logs == ["first attempt\n", "second attempt\n"]

    def test_a_failed_stage_runs_again_when_asked_again(self, place: Place) -> None:
        program = """
            import pathlib, os, sys
            marker = pathlib.Path(os.environ["JOBRELAY_VOLUME"], "marker")
            sys.exit("not yet") if not marker.exists() and not marker.touch() else print("now")
        """
        folder = programs(place.folder / "m", eval=program)
        arguments = ("run-all", "--run", "a", "-k", str(folder), "--no-fetch")
        place.run(*arguments, expect=1)
        result = place.run(*arguments)

        assert "runs again, replacing the earlier Job a-eval" in result.err
        assert "train was here" not in result.err  # complete: left alone
        assert "eval │ now" in result.err

    def test_row_11_another_content_under_one_name(self, place: Place) -> None:
        place.run("run", "train", "--run", "a", *QUICK)
        result = place.run("run", "train", "--run", "a", *QUICK, "--set", "seed=7", expect=6)

        assert "seed: 0 there, 7 wanted" in result.err
        assert "--replace --run a" in result.err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--set", "train.epoch=2"], "did you mean train.epochs?"),
            (["--set", "train.epochs=many"], "train.epochs"),
            (
                ["--set", "data.name=imagenet"],
                "'mnist', 'imagefolder', 'blobs' or package.module:function",
            ),
            (
                ["--set", "model.name=resnet18"],
                "model resnet18 takes RGB images, fashion-mnist-mini has none",
            ),
            (["--run", "Not_A_Label"], "lower-case letters"),
        ],
        ids=["unknown-key", "wrong-type", "unknown-dataset", "model-of-other-data", "run-id"],
    )
    def test_bad_input_ends_before_anything_is_made(
        self, place: Place, arguments: list[str], said: str
    ) -> None:
        result = place.run("run-all", *arguments, expect=2)

        assert said in result.err
        assert place.run("list", "-o", "name").out == ""
        assert list(place.folder.iterdir()) == []

    # --- a stage that is started early ---

    def test_a_stage_that_is_started_early_is_adopted_in_its_turn(self, place: Place) -> None:
        settings = (*QUICK, "--set", "train.epochs=10", "-o", "json")
        report = place.run("run-all", "--run", "a", "--early", "on", *settings).json()

        train, test, _ = report["stages"]
        assert [test["how"], test["pods"], test["log_complete"]] == ["early", 1, True]
        assert train["timeline"]["recorded"] <= test["timeline"]["working"]
        again = place.run("run-all", "--run", "a", *settings).json()
        assert [stage["how"] for stage in again["stages"]] == ["complete"] * 3

    def test_a_stage_that_was_started_early_is_gone_when_the_one_before_fails(self, place: Place) -> None:
        folder = write_manifests(place.folder / "m", near_its_end("raise SystemExit(3)"))
        result = place.run("run-all", "--run", "a", "-k", str(folder), "--early", "on", expect=1)

        assert "train failed" in result.err
        with eventually() as until:
            until(
                lambda: [row["stage"] for row in place.run("status", "a", "-o", "json").json()] == ["train"]
            )
        place.run("fetch", "a", "-o", "fetched")
        assert not (place.folder / "fetched/eval.json").exists()

    def test_row_46_a_launcher_that_is_killed_leaves_an_early_stage_to_the_next_one(
        self, place: Place
    ) -> None:
        arguments = ("run-all", "--run", "a", "--no-fetch", *QUICK, "--set", "train.epochs=8")
        place.interrupt_when("train │ epoch 2/8", signal.SIGKILL, *arguments, "--early", "on")
        report = place.run(*arguments, "-o", "json").json()

        assert [stage["verdict"]["outcome"] for stage in report["stages"]] == ["succeeded"] * 3
        assert [stage["pods"] for stage in report["stages"]] == [1] * 3

    # --- detach and come back ---

    @pytest.mark.parametrize(
        ("number", "code"),
        [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
        ids=["row-47-ctrl-c", "row-47-sigterm", "row-46-sigkill"],
    )
    def test_detach_and_re_attach(self, place: Place, number: signal.Signals, code: int) -> None:
        program = """
            import time
            for i in range(100):
                print("step", i, flush=True)
                time.sleep(0.2)
        """
        folder = programs(place.folder / "m", train=program)
        arguments = ("run-all", "-k", str(folder), "--no-fetch")
        first = place.interrupt_when("train │ step 2", number, *arguments)
        assert first.code == code
        if number != signal.SIGKILL:
            assert "re-attaches" in first.err

        again = place.run(*arguments, "-o", "json")
        assert "re-attached to Job" in again.err, again.err
        assert again.json()["stages"][0]["pods"] == 1
        log = next((place.folder / "runs").glob("*/logs/train-*.log"))
        assert log.read_text() == "".join(f"step {i}\n" for i in range(100))

    def test_cancel_on_interrupt(self, place: Place) -> None:
        folder = programs(place.folder / "m", train="import time; print('on', flush=True); time.sleep(60)")
        result = place.interrupt_when(
            "train │ on", signal.SIGINT,
            "run-all", "--run", "a", "-k", str(folder), "--no-fetch", "--cancel-on-interrupt",
        )  # fmt: skip

        assert result.code == 130
        assert "cancelled: a-train" in result.err
        with eventually() as until:
            until(lambda: place.run("list", "-o", "name").out == "")

    def test_cancel_keeps_what_has_ended(self, place: Place) -> None:
        folder = programs(place.folder / "m", eval="import time; print('on', flush=True); time.sleep(60)")
        place.interrupt_when(
            "eval │ on", signal.SIGINT, "run-all", "--run", "a", "-k", str(folder), "--no-fetch"
        )
        assert place.run("cancel", "a").out == "Job a-eval cancelled\n"
        with eventually() as until:
            until(lambda: "a-eval" not in place.run("status", "a", "-o", "json").out)
        assert [row["stage"] for row in place.run("status", "a", "-o", "json").json()] == ["train"]

    # --- logs ---

    def test_rows_43_and_44_a_hostile_log_is_kept_byte_for_byte(self, place: Place) -> None:
        program = f"import os; os.write(1, {HOSTILE_LOG!r})"
        folder = programs(place.folder / "m", train=program)
        result = place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch")

        log = next((place.folder / "runs/a/logs").glob("train-*.log"))
        assert log.read_bytes() == HOSTILE_LOG
        assert "train │ no newline at the end" in result.err
        assert "\x1b" not in result.err
        assert "\x00" not in result.err

    def test_logs_during_and_after(self, place: Place) -> None:
        place.run("run-all", "--run", "a", *QUICK)
        from_pods = place.run("logs", "a").out
        one = place.run("logs", "a", "eval", "--tail", "1").out
        place.run("delete", "a")
        from_volume = place.run("logs", "a").out

        assert from_pods == from_volume
        assert one in from_pods
        assert one.count("\n") == 1
        kept = [path.read_text() for path in sorted((place.folder / "runs/a/logs").iterdir())]
        assert sorted(kept) == sorted(text for text in kept if text in from_pods)

    # --- files ---

    def test_fetch_again_and_with_checkpoints(self, place: Place, tmp_path: Path) -> None:
        place.run("run-all", "--run", "a", "--no-fetch", *QUICK)
        place.run("fetch", "a", "-o", str(tmp_path / "some"))
        place.run("fetch", "a", "-o", str(tmp_path / "all"), "--all")

        assert (tmp_path / "some/model.pt").read_bytes() == (tmp_path / "all/model.pt").read_bytes()
        assert not (tmp_path / "some/checkpoints").exists()
        assert list((tmp_path / "all/checkpoints").glob("*.pt"))

    def test_fetch_of_a_run_that_is_not_there(self, place: Place) -> None:
        place.run("run", "train", "--run", "a", *QUICK)
        result = place.run("fetch", "b", expect=2)

        assert "there is no run b" in result.err
        assert not (place.folder / "runs/b").exists()

    def test_put_then_again(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / "set/inner").mkdir(parents=True)
        (tmp_path / "set/inner/file").write_bytes(b"\x00content")
        assert place.run("put", str(tmp_path / "set"), "mine").out == "data/mine\n"

        again = place.run("put", str(tmp_path / "set"), "mine", expect=2)
        assert "already" in again.err
        assert "is not a directory" in place.run("put", str(tmp_path / "none"), "other", expect=2).err

        (tmp_path / "set/inner/file").rename(tmp_path / "set/other")
        place.run("put", str(tmp_path / "set"), "mine", "--replace")
        (listed,) = place.run("data", "list", "-o", "json").json()
        assert (listed["name"], listed["files"], listed["bytes"]) == ("mine", 1, 8)
        assert place.run("data", "remove", "mine").out == "data/mine removed\n"
        assert place.run("data", "list", "-o", "name").out == ""
        assert "data/mine is not on the volume" in place.run("data", "remove", "mine", expect=2).err

    def test_names_that_cannot_be_put_are_all_named_before_anything_is_copied(
        self, place: Place, tmp_path: Path
    ) -> None:
        (tmp_path / "set").mkdir()
        for name in (b"fine", b"Icon\r", b"a\\b", b"L\xe4tin"):
            (tmp_path / "set" / os.fsdecode(name)).write_bytes(b"x")

        refused = place.run("put", str(tmp_path / "set"), "mine", expect=2)
        assert "3 names in" in refused.err
        for why in ("has a control character", "has a backslash", "has bytes that are not UTF-8"):
            assert why in refused.err
        assert (
            "copied 1 file, 1 byte" in place.run("put", str(tmp_path / "set"), "mine", "--skip-odd-names").err
        )

    def test_data_that_a_run_reads_is_neither_replaced_nor_removed(
        self, place: Place, tmp_path: Path
    ) -> None:
        (tmp_path / "set").mkdir()
        (tmp_path / "set/file").write_bytes(b"x")
        place.run("put", str(tmp_path / "set"), "mine")
        manifests = programs(place.folder / "m", train="import time; time.sleep(600)")
        run = place.start(
            "run", "train", "--run", "a", "-k", str(manifests), "--no-fetch",
            "--set", "data.name=imagefolder", "--set", "data.folder=data/mine",
        )  # fmt: skip
        try:
            with eventually(PATIENCE) as until:
                until(lambda: "running" in place.run("status", "a", expect=None).out)
            for command in (("put", str(tmp_path / "set"), "mine", "--replace"), ("data", "remove", "mine")):
                assert "run a uses it" in place.run(*command, expect=6).err
        finally:
            place.run("cancel", "a", expect=None)
            run.communicate(timeout=PATIENCE)
        place.run("data", "remove", "mine")

    def test_images_that_were_put_are_classified(self, place: Place, tmp_path: Path) -> None:
        asked = ("--set", "infer.source=data/photos", "--set", "infer.samples=all", *QUICK)
        absent = place.run("run-all", "--run", "a", *asked, expect=2)
        assert "data/photos is not on the volume" in absent.err
        assert place.run("list", "-o", "name").out == ""  # before anything is trained for it

        (tmp_path / "photos/inner").mkdir(parents=True)
        for name in ("écharpe.png", "inner/bag.jpg"):
            picture = Image.new("RGB", (300, 200), "white")
            picture.paste("black", (100, 60, 180, 140))  # paper with nothing on it has no class
            picture.save(tmp_path / "photos" / name)
        (tmp_path / "photos/empty.png").touch()
        place.run("put", str(tmp_path / "photos"), "photos")
        result = place.run("run-all", "--run", "a", *asked)

        assert "2 images, 1 skipped" in result.out
        home = place.folder / "runs" / "a"
        predictions = json.loads((home / "predictions.json").read_text())
        assert [prediction["image"] for prediction in predictions] == ["inner/bag.jpg", "écharpe.png"]
        assert all((home / prediction["file"]).is_file() for prediction in predictions)
        told = json.loads((home / "inference.json").read_text())
        assert told["skipped"] == [{"file": "empty.png", "reason": "it is empty"}]

    def test_clothes_that_were_put_are_learnt_and_the_run_is_verified(
        self, place: Place, tmp_path: Path
    ) -> None:
        asked = ("--set", "data.name=imagefolder", "--set", "data.folder=data/clothes", *QUICK)
        absent = place.run("run-all", "--run", "a", *asked, expect=2)
        assert "data/clothes is not on the volume" in absent.err

        tool = [sys.executable, str(REPOSITORY / "tools" / "make_clothes.py"), str(tmp_path / "clothes")]
        subprocess.run([*tool, "--per-class", "12"], check=True)
        place.run("put", str(tmp_path / "clothes"), "clothes")
        place.run("run-all", "--run", "a", *asked, "-q")

        home = place.folder / "runs" / "a"
        names = json.loads((home / "eval_results.json").read_text())["class_names"]
        assert names == ["bottomwear", "dress", "footwear", "handbag", "topwear"]
        verified = place.run("verify", "a", "-o", "json").json()
        assert [check["what"] for check in verified if check["good"]] == [
            "train", "eval", "infer", "checkpoint", "eval_results.json", "pictures",
        ]  # fmt: skip
        assert f'"samples": {verified[4]["content"]["samples"]}' in place.run("verify", "a").out

    def test_a_run_that_is_not_complete_is_not_verified(self, place: Place) -> None:
        place.run("run", "train", "--run", "a", *QUICK)

        verified = place.run("verify", "a", expect=7)

        assert "no record: it has not run" in verified.out
        assert "there is no run b" in place.run("verify", "b", expect=2).err

    def test_weights_that_are_not_there_are_told_before_anything_is_trained(
        self, place: Place, tmp_path: Path
    ) -> None:
        (tmp_path / "clothes").mkdir()
        (tmp_path / "clothes" / "x").touch()
        place.run("put", str(tmp_path / "clothes"), "clothes")
        settings = ("data.name=imagefolder", "data.folder=data/clothes", "model.name=resnet18")
        asked = [
            part
            for setting in (*settings, "model.weights=data/clothes/resnet.pth")
            for part in ("--set", setting)
        ]

        result = place.run("run-all", *asked, expect=2)

        assert "data/clothes/resnet.pth is not on the volume" in result.err
        assert place.run("list", "-o", "name").out == ""

    # --- sweeps ---

    def test_a_sweep_that_was_killed_goes_on_where_it_was(self, place: Place) -> None:
        # nothing is trained in a second: a trial that fails
        arguments = (
            "sweep", "--name", "s", "--grid", "train.timeout_seconds=600,1",
            "--set", "train.backoff_limit=0", *QUICK,
        )  # fmt: skip
        place.interrupt_when(" test acc ", signal.SIGKILL, *arguments)
        home = place.folder / "sweeps" / "s"
        first, _ = (trial["run"] for trial in json.loads((home / "sweep.json").read_text())["trials"])
        record = (home / "runs" / first / "train.json").read_bytes()
        (home / "sweep.csv").unlink(missing_ok=True)

        result = place.run(*arguments, "-o", "csv", expect=1)

        assert (home / "runs" / first / "train.json").read_bytes() == record
        done, failed = csv.DictReader(io.StringIO(result.out))
        assert (home / "sweep.csv").read_text() == result.out
        assert [done["run"], done["train.timeout_seconds"], done["status"]] == [first, "600", "succeeded"]
        assert min(float(done["test_acc"]), float(done["val_acc"])) > 0.5
        assert [failed["train.timeout_seconds"], failed["status"]] == ["1", "failed"]
        assert "DeadlineExceeded" in failed["cause"]
        observed = (home / "observations.txt").read_text()
        assert "1 of 2 trials failed" in observed
        assert f"best on held-out training images: {float(done['val_acc']):.4f} with " in observed
        assert f"its test accuracy: {float(done['test_acc']):.4f}" in observed
        assert f"the report is {home.relative_to(place.folder)}/report.html" in result.err
        assert first in (home / "report.html").read_text()
        refused = place.run(*arguments, "--set", "seed=3", expect=6)
        assert "sweep of another configuration" in refused.err

    def test_delete_with_data(self, place: Place) -> None:
        place.run("run", "train", "--run", "a", *QUICK)
        assert "runs/a on the volume deleted" in place.run("delete", "a", "--data").out
        with eventually() as until:
            until(lambda: place.run("list", "--recorded", "-o", "name").out == "")
        place.run("delete", "a", expect=2)

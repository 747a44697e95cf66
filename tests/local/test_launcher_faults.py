"""What happens to a launcher: killed, interrupted, without room, without a reader."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.reliability import launchers
from jobrelay.executors.local.pod.runner import JobRunner
from tests.support import LONG, PATIENCE, QUICK, Place, Result, programs
from tests.support import objects as o
from tests.support.volume import write_data


@pytest.fixture
def jobs_of(place: Place) -> Callable[[str], dict[str, str]]:
    """Who tells the UIDs of a run's Jobs."""

    def jobs(run: str) -> dict[str, str]:
        paths = (place.folder / "volume" / ".jobs").glob(f"{run}-*/state.json")
        found = [json.loads(path.read_text())["job"]["metadata"] for path in paths]
        return {job["name"]: job["uid"] for job in found}

    place.options = ["--local", "--volume", str(place.folder / "volume")]
    return jobs


@pytest.mark.parametrize("seam", launchers.seams())
def test_row_46_a_launcher_that_is_killed_at_a_seam(
    place: Place, jobs_of: Callable[[str], dict[str, str]], seam: str
) -> None:
    folder = launchers.stage_programs(place.folder / "m", pause=0.01)
    outcome = launchers.disturbed(place, folder, lambda a: launchers.kill_at(place, a, seam), jobs_of)
    assert outcome.problems == []


def test_row_48_two_launchers_that_start_together(
    place: Place, jobs_of: Callable[[str], dict[str, str]]
) -> None:
    folder = launchers.stage_programs(place.folder / "m", pause=0.01)
    assert launchers.race(place, folder, jobs_of) == []


def test_row_46_a_job_that_has_ended_is_not_run_again(tmp_path: Path) -> None:
    """A launcher may start a runner for a Job that ends just then."""
    ended = o.job("train", o.condition("Complete"))
    runner = JobRunner(tmp_path / "jobs" / "a-train", {"job": ended, "pods": []})
    runner.run()
    assert not (tmp_path / "jobs").exists()  # nothing was written, and no Pod made


def test_row_46_a_runner_that_was_killed_before_it_said_so(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "a-train"
    folder.mkdir(parents=True)
    job = o.job("train")
    pod = o.pod(job, "Succeeded", initContainerStatuses=[], containerStatuses=[o.terminated(0, "Completed")])
    JobRunner(folder, {"job": job, "pods": [pod]}).run()
    state = json.loads((folder / "state.json").read_text())
    assert [condition["type"] for condition in state["job"]["status"]["conditions"]] == ["Complete"]
    assert len(state["pods"]) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root, to mount a small tmpfs, not here")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs, not here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_row_49_the_launchers_disk_is_full(place: Place, small_disk: Path) -> None:
    program = "print(('x' * 999 + chr(10)) * 1000, end='')"
    folder = programs(place.folder / "m", train=program, eval="print('eval goes on')")
    place.options = ["--local", "--volume", str(place.folder / "volume")]
    place.folder = small_disk
    result = place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch", expect=7)
    assert "error: the log of train, " in result.err
    assert "is incomplete" in result.err
    assert "eval goes on" in result.err
    assert [row["state"] for row in place.run("status", "a", "-o", "json").json()] == ["succeeded"] * 3


def test_row_49_no_room_for_the_results(place: Place, small_disk: Path) -> None:
    place.options = ["--local", "--volume", str(place.folder / "volume")]
    elsewhere, place.folder = place.folder, small_disk
    (small_disk / "filler").write_bytes(bytes(200 * 1024))
    result = place.run("run-all", "--run", "a", *QUICK, expect=7)
    assert "cannot be stored in runs/a" in result.err
    (small_disk / "filler").unlink()
    place.folder = elsewhere
    place.run("fetch", "a")  # nothing is lost
    assert (elsewhere / "runs/a/eval_results.json").exists()


def test_row_49_a_reader_that_leaves_early(place: Place) -> None:
    folder = programs(place.folder / "m", train="for n in range(1_000_000): print('line', n)")
    place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", "-q")
    process = place.start("logs", "a")
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()  # as `| head -1` does
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(timeout=PATIENCE) == 7


def test_row_49_progress_that_nobody_reads(place: Place) -> None:
    folder = programs(place.folder / "m", train="import time; print('on', flush=True); time.sleep(2)")
    process = place.start("run-all", "--run", "a", "-k", str(folder), "--no-fetch", "-o", "json")
    assert process.stderr
    process.stderr.close()
    assert process.stdout
    report = json.loads(process.stdout.read())
    process.stdout.close()
    assert process.wait(timeout=PATIENCE) == 0
    assert [stage["verdict"]["outcome"] for stage in report["stages"]] == ["succeeded"] * 3


def test_row_47_a_second_ctrl_c_quits_at_once(place: Place) -> None:
    folder = programs(place.folder / "m", train="import time; print('on', flush=True); time.sleep(60)")
    process = place.start("run-all", "--run", "a", "-k", str(folder), "--no-fetch", "--cancel-on-interrupt")
    place.wait_for(process, "train │ on")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in err
    place.run("cancel", "a", expect=None)


def test_row_29_the_hint_after_a_deadline_resumes_the_same_run_from_its_checkpoint(place: Place) -> None:
    """Pasted as it is printed, however often: the limit is doubled until the run succeeds."""
    shorter = ("--set", "train.epochs=8")
    result = place.run(
        "run-all", "--run", "a", *LONG, *shorter, "--set", "train.timeout_seconds=4", expect=None
    )
    pasted = 0
    resumed = ""
    while result.code == 4 and pasted < 8:
        saved = sorted((place.folder.parent / "volume/runs/a/checkpoints").glob("*.pt"))
        hint = result.err.rpartition("try: ")[2].strip()
        done = subprocess.run(
            hint, shell=True, cwd=place.folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        pasted += 1
        if saved:
            assert "resuming from epoch" in result.err, result.err
            resumed = result.err
    assert (result.code, bool(resumed)) == (0, True), result.err
    assert place.run("list", "-o", "name").out == "a\n"

    # what a stage may use is no part of its result: those that are complete stay so
    again = place.run("run-all", "--run", "a", *LONG, *shorter, "--set", "train.memory=3Gi", "-o", "json")
    assert [stage["how"] for stage in again.json()["stages"]] == ["complete"] * 3


def test_data_that_has_changed_is_not_complete_already(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "volume" / "data" / "mnist"
    write_data(folder)
    mnist = ("--set", "data.name=mnist", *QUICK)
    place.run("run-all", "--run", "a", *mnist)
    assert "(complete already)" in place.run("run-all", *mnist).err  # the same data: the same run
    write_data(folder, train=301)

    verified = place.run("verify", "a", expect=7)
    assert "its inputs have changed since: data/mnist/train-images" in " ".join(verified.out.split())
    refused = place.run("run-all", "--run", "a", *mnist, expect=6)
    assert "run a used other data: data/mnist/train-images" in refused.err
    again = place.run("run-all", *mnist)
    assert "run a used other data" in again.err
    assert "complete already" not in again.err

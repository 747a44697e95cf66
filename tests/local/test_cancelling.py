"""`cancel` and `delete`: what they report as cancelled has ended, however hard that is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobrelay.errors import Exit, JobRelayError
from jobrelay.executors.base import Submission
from jobrelay.executors.local import LocalExecutor, ending, layout, liveness
from jobrelay.verdicts import JobView, Verdict, judge
from tests.support import PATIENCE, Place, programs
from tests.support.training import TRAINS, holder, is_alive, job_folder


def test_cancel_from_another_temporary_folder(place: Place, tmp_path: Path, training: int) -> None:
    (tmp_path / "elsewhere").mkdir()
    place.environment["TMPDIR"] = str(tmp_path / "elsewhere")
    assert place.run("cancel", "a").out == "Job a-train cancelled\n"
    assert not is_alive(training)
    assert not job_folder(tmp_path).exists()


@pytest.mark.parametrize("command", ["cancel", "delete"])
def test_cancel_where_the_socket_is_gone(place: Place, tmp_path: Path, training: int, command: str) -> None:
    shutil.rmtree(Path(holder(tmp_path).socket).parent)
    place.run(command, "a")
    assert not is_alive(training)
    assert not job_folder(tmp_path).exists()


def test_cancel_where_the_runner_was_killed(place: Place, tmp_path: Path, training: int) -> None:
    """What it ran goes on without it, and nobody looks after it."""
    os.kill(holder(tmp_path).pid, signal.SIGKILL)
    assert is_alive(training)
    assert place.run("cancel", "a").out == "Job a-train cancelled\n"
    assert not is_alive(training)
    assert not job_folder(tmp_path).exists()


def test_cancel_where_the_runner_answers_no_more(
    tmp_path: Path, training: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_SLACK_SECONDS", 0.5)
    os.kill(holder(tmp_path).pid, signal.SIGSTOP)
    ending.end(job_folder(tmp_path))
    assert not is_alive(training)
    assert not job_folder(tmp_path).exists()


def test_what_cannot_be_stopped_is_an_error_and_stays(
    tmp_path: Path, training: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that no signal ends, as one that waits for a dead disk, is one here to which none is sent."""
    monkeypatch.setattr(ending, "_SLACK_SECONDS", 0.5)
    monkeypatch.setattr(ending, "_KILLED_SECONDS", 0.5)
    os.kill(holder(tmp_path).pid, signal.SIGKILL)
    monkeypatch.setattr(liveness, "signal_process", lambda *_, **__: None)
    with pytest.raises(JobRelayError, match=rf"a-train could not be stopped: process {training} still runs"):
        ending.end(job_folder(tmp_path))
    assert job_folder(tmp_path).exists()


@pytest.mark.parametrize("gone", ["nothing", "socket", "runner"])
def test_a_job_that_is_given_up_has_ended_and_keeps_why(
    place: Place, tmp_path: Path, training: int, gone: str
) -> None:
    if gone == "socket":
        shutil.rmtree(Path(holder(tmp_path).socket).parent)
    if gone == "runner":
        os.kill(holder(tmp_path).pid, signal.SIGKILL)
    verdict = Verdict(Exit.OUT_OF_TIME, "out of time", "DeadlineExceeded", "it ran too long")
    local = LocalExecutor(tmp_path / "volume")
    ((job, _),) = local.jobs("a")
    local.stop(Submission(job, "adopted"), verdict)
    assert not is_alive(training)
    ((job, pods),) = local.jobs("a")
    judged = judge(JobView(job, pods))
    assert isinstance(judged, Verdict)
    assert (judged.outcome, judged.message) == ("out of time", "it ran too long")


def test_a_number_that_another_process_has_now_is_not_hit(
    place: Place, tmp_path: Path, training: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    ) as other:
        os.kill(holder(tmp_path).pid, signal.SIGKILL)
        path = job_folder(tmp_path) / layout.STATE
        state = json.loads(path.read_text())
        state["pods"][0]["status"]["containerStatuses"][0]["pid"] = other.pid
        path.write_text(json.dumps(state))
        place.run("cancel", "a")
        assert other.poll() is None
        other.kill()


def test_a_launcher_that_follows_learns_that_the_job_is_deleted(place: Place, tmp_path: Path) -> None:
    """Also where its end comes by a signal: no other runner may take the Job up meanwhile."""
    folder = programs(place.folder / "m", train=TRAINS)
    process = place.start("run-all", "--run", "a", "-k", str(folder), "--no-fetch")
    place.wait_for(process, "train │ on")
    shutil.rmtree(Path(holder(tmp_path).socket).parent)
    place.run("cancel", "a")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 8, err
    assert not job_folder(tmp_path).exists()


def test_a_runner_that_is_ended_leaves_the_job_to_the_next_one(place: Place, tmp_path: Path) -> None:
    """As when the machine is shut down: no attempt of the Job's own is lost by it."""
    folder = programs(place.folder / "m", train=TRAINS)
    process = place.start("run-all", "--run", "a", "-k", str(folder), "--no-fetch")
    place.wait_for(process, "train │ on")
    os.kill(holder(tmp_path).pid, signal.SIGTERM)
    place.wait_for(process, "train │ on")
    states = json.loads((job_folder(tmp_path) / layout.STATE).read_text())["pods"]
    assert [(pod["status"]["phase"], pod["status"].get("reason")) for pod in states] == [
        ("Failed", "Terminated"), ("Running", None),
    ]  # fmt: skip
    place.run("cancel", "a")
    process.communicate(timeout=PATIENCE)

"""A volume with two users: nobody's Jobs are ended, followed or believed by the other."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import site
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrelay.executors.local import contact, layout, liveness
from tests.support import PATIENCE, REPOSITORY, Place, eventually, programs
from tests.support.training import TRAINS, is_alive, job_folder

NOBODY = 65534


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """pytest's own folders are for their user alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # a runner may be writing its last state


@pytest.fixture(scope="session")
def other_python() -> tuple[str, dict[str, str]]:
    """A Python that another user may start, with the libraries of this one: program and environment."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be two users, not here")
    environment = {**os.environ, "HOME": "/", "PYTHONPATH": site.getsitepackages()[0]}
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with contextlib.suppress(OSError):
            command = [python, "-c", "import click, pydantic, yaml, rich"]
            if not subprocess.run(command, user=NOBODY, cwd="/", env=environment, check=False).returncode:
                return python, environment
    pytest.skip("needs a Python that another user may start, not here")


@pytest.fixture
def as_nobody(other_python: tuple[str, dict[str, str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a launcher as another user."""
    python, environment = other_python

    def run(place: Place, *arguments: str, cwd: Path = Path("/")) -> subprocess.CompletedProcess[str]:
        command = [python, str(REPOSITORY / "launcher"), *arguments, *place.options]
        as_other = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "env": environment, "cwd": cwd}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False, **as_other
        )

    return run


def test_another_user_cannot_cancel_and_learns_it(
    place: Place, tmp_path: Path, as_nobody: Any, training: int
) -> None:
    for command in ("cancel", "delete", "status"):
        done = as_nobody(place, command, "a")
        assert done.returncode == 2, done
        assert "a-train in" in done.stderr
        assert "belongs to user root" in done.stderr
    assert is_alive(training)
    assert job_folder(tmp_path).exists()


def test_a_second_user_of_a_volume_is_refused_before_anything_is_created(
    place: Place, tmp_path: Path, as_nobody: Any, training: int
) -> None:
    (tmp_path / "volume").chmod(0o777)
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    ran = as_nobody(place, "run-all", "--run", "b", cwd=tmp_path / "theirs")
    assert ran.returncode == 2, ran
    assert f"{tmp_path}/volume/.jobs cannot be written: it belongs to user root" in ran.stderr
    examined = as_nobody(place, "doctor")
    assert examined.returncode == 2
    assert f"{tmp_path}/volume/.jobs cannot be written: it belongs to user root" in examined.stdout.replace(
        "\n", ""
    ).replace("  ", "")
    listed = as_nobody(place, "list")
    assert (listed.returncode, "Permission" in listed.stderr) == (0, False), listed


def test_root_can_cancel_what_another_user_runs(place: Place, tmp_path: Path, as_nobody: Any) -> None:
    (tmp_path / "volume").mkdir()
    os.chown(tmp_path / "volume", NOBODY, NOBODY)
    folder = programs(place.folder / "m", train=TRAINS)
    done: list[Any] = []
    arguments = ("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", "--cancel-on-interrupt")
    place.options = ["--local", "--volume", str(tmp_path / "volume")]
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)

    def run() -> None:
        done.append(as_nobody(place, *arguments, cwd=tmp_path / "theirs"))

    thread = threading.Thread(target=run)
    thread.start()
    with eventually(PATIENCE) as until:
        until((tmp_path / "volume/pid").exists)
        until(lambda: bool((tmp_path / "volume/pid").read_text()))
    pid = int((tmp_path / "volume/pid").read_text())
    assert place.run("cancel", "a").out == "Job a-train cancelled\n"
    assert not is_alive(pid)
    thread.join(PATIENCE)
    assert done[0].returncode == 8, done


def test_what_another_user_has_put_there_is_not_followed(
    place: Place, tmp_path: Path, as_nobody: Any
) -> None:
    """A Job's folder with a verdict in it, made before the run was: nothing in it is believed."""
    jobs = tmp_path / "volume/.jobs"
    (jobs / "a-train").mkdir(parents=True)
    state = {"job": {"metadata": {"name": "a-train", "uid": "x", "labels": {}}}, "pods": []}
    (jobs / "a-train" / layout.STATE).write_text(json.dumps(state))
    os.chown(jobs / "a-train", NOBODY, NOBODY)
    result = place.run("run-all", "--run", "a", expect=2)
    assert "a-train in" in result.err
    assert "belongs to user nobody" in result.err


def test_a_socket_that_another_user_has_made_is_not_connected_to(
    place: Place, tmp_path: Path, as_nobody: Any
) -> None:
    theirs = tmp_path / "jobrelay-1234abcd"
    theirs.mkdir(mode=0o700)
    job = tmp_path / "a-train"
    job.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(theirs / "s"))
        listener.listen()
        with liveness.held(job) as lock:
            assert lock
            liveness.write_holder(lock, liveness.Holder.this_process(str(theirs / "s")))
            contact._connect(job).close()  # one's own
            os.chown(theirs, NOBODY, NOBODY)
            assert not contact.request(job, {"verb": "delete"}, 1)

"""The local runner: its socket, and what becomes of what a container prints."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launcher.executors.local import layout, pods
from launcher.executors.local.pods import PodRunner
from launcher.executors.local.runner import JobRunner, main
from launcher.executors.local.state import JobState
from tests.support import PATIENCE, set_command
from tests.unit import objects as o

DAEMON = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True).pid)
"""


def test_a_daemon_that_holds_the_output_does_not_hold_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "_STRAGGLER_SECONDS", 0.5)
    folder = tmp_path / ".jobs" / "a-train"
    folder.mkdir(parents=True)
    job = o.job("train", backoffLimit=0)
    set_command(job, ["python", "-c", DAEMON])
    runner = threading.Thread(target=JobRunner(folder, {"job": job, "pods": []}).run, daemon=True)
    runner.start()
    runner.join(30)
    (log,) = folder.glob("*.train.log")
    daemon, *said = log.read_text().splitlines()
    os.kill(int(daemon), signal.SIGKILL)

    assert not runner.is_alive()
    assert said == ["a process that outlived the container still holds its output; left alone"]
    (condition,) = json.loads((folder / layout.STATE).read_text())["job"]["status"]["conditions"]
    assert condition["type"] == "Complete"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, not here")
def test_row_49_a_log_without_room_does_not_hold_the_stage(tmp_path: Path) -> None:
    state = JobState(tmp_path, {"job": o.job(), "pods": []})
    program = "import os; os.write(1, bytes(2**20))"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout
    PodRunner(state, o.pod(o.job()))._pump(child.stdout, Path("/dev/full"), threading.Event())
    assert child.wait(timeout=PATIENCE) == 0


def test_a_short_write_is_completed() -> None:
    class Short(io.BytesIO):
        def write(self, content: memoryview) -> int:  # type: ignore[override]
            return super().write(content[:3])

    log = Short()
    pods._keep(log, b"0123456789")
    assert log.getvalue() == b"0123456789"


@pytest.mark.parametrize("bound_anew", [False, True])
def test_an_ending_runner_removes_its_own_socket_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound_anew: bool
) -> None:
    (tmp_path / layout.STATE).write_text(json.dumps({"job": o.job(), "pods": []}))
    path = layout.socket_path(tmp_path)

    def run(self: JobRunner) -> None:
        if bound_anew:
            path.unlink()
            path.touch()

    monkeypatch.setattr(JobRunner, "run", run)
    read_end, write_end = os.pipe()
    assert main([str(tmp_path), str(write_end)]) == 0
    os.close(read_end)
    assert path.exists() == bound_anew
    path.unlink(missing_ok=True)

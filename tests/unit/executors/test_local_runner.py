"""The local runner: its socket, and what becomes of what a container prints."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobrelay.executors.local import LocalExecutor, layout, liveness
from jobrelay.executors.local.pod import container
from jobrelay.executors.local.pod.container import Container
from jobrelay.executors.local.pod.runner import JobRunner, main
from jobrelay.executors.local.pod.state import JobState
from tests.support import PATIENCE, set_command
from tests.support import objects as o

DAEMON = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True).pid)
"""


def test_a_daemon_that_holds_the_output_does_not_hold_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "_STRAGGLER_SECONDS", 0.5)
    folder = tmp_path / ".jobs" / "a-train"
    folder.mkdir(parents=True)
    job = o.job("train", backoffLimit=0)
    set_command(job, ["python", "-c", DAEMON])
    LocalExecutor(tmp_path).configure(o.plan().config_map)
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
    pod = o.pod(o.job())
    train = Container(state, pod, "containerStatuses", pod["spec"]["containers"][0], tmp_path, None)
    train._pump(child.stdout, Path("/dev/full"), threading.Event())
    assert child.wait(timeout=PATIENCE) == 0


def test_a_short_write_is_completed() -> None:
    class Short(io.BytesIO):
        def write(self, content: memoryview) -> int:  # type: ignore[override]
            return super().write(content[:3])

    log = Short()
    container._keep(log, b"0123456789")
    assert log.getvalue() == b"0123456789"


def test_an_ending_runner_removes_its_socket_and_the_folder_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / layout.STATE).write_text(json.dumps({"job": o.job(), "pods": []}))
    seen: list[Path] = []

    def run(self: JobRunner) -> None:
        holder = liveness.holder_of(self.state.folder)
        assert holder
        seen.append(Path(holder.socket))
        assert seen[0].is_socket()
        assert stat.S_IMODE(seen[0].parent.stat().st_mode) == 0o700

    monkeypatch.setattr(JobRunner, "run", run)
    read_end, write_end = os.pipe()
    assert main([str(tmp_path), str(write_end)]) == 0
    with os.fdopen(read_end) as ready:
        assert ready.read() == "listens"
    assert not seen[0].parent.exists()

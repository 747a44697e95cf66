"""Stages of several Pods, as processes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.suites.several_pods import NODES, SeveralPods, stage
from tests.support import PATIENCE, Place


class TestSeveralPodsLocal(SeveralPods):
    """Each a child of the Job's runner."""


_STAYS_ONCE = """
again = (volume / "again").exists()
with rendezvous(context) as meeting:
    print("index", index, "met", "again" if again else "first", flush=True)
    if not again:
        (volume / "again").touch()
        time.sleep(60)
"""


def test_row_36_all_of_them_are_lost_with_their_runner(place: Place, tmp_path: Path) -> None:
    folder = stage(place.folder / "m", _STAYS_ONCE)
    process = place.start("run", "train", "--run", "a", "-k", str(folder), "-o", "json", *NODES)
    place.wait_for(process, "met first")
    job = str(tmp_path / "volume/.jobs/a-train")
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    (runner,) = [int(line.split()[0]) for line in listed.splitlines() if "pod.runner" in line and job in line]
    os.kill(runner, signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, out + err
    for index in range(3):
        assert f"train.{index} │ index {index} met again" in err

"""A training that outlives its launcher, for tests of how it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from jobrelay.executors.local import liveness

#: Heeds SIGTERM as a training does: it ends, and says so.
TRAINS: Final = """
import os, pathlib, signal, sys, time
def end(*_):
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
pathlib.Path(os.environ["JOBRELAY_VOLUME"], "pid").write_text(str(os.getpid()))
print("on", flush=True)
while True:
    time.sleep(0.1)
"""


def is_alive(pid: int) -> bool:
    return liveness.started(pid) is not None


def job_folder(tmp_path: Path) -> Path:
    return tmp_path / "volume/.jobs/a-train"


def holder(tmp_path: Path) -> liveness.Holder:
    found = liveness.holder_of(job_folder(tmp_path))
    assert found
    return found

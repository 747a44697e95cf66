"""What the local executor and its runners agree on: names of folders and files.

ROOT/                       stands for the PersistentVolumeClaim (./jobrelay-data)
  data/ runs/               as on a cluster
  .jobs/JOB/state.json      Job and Pods with their status; lock (see liveness); one log file a container
  .jobs/config/NAME/        a ConfigMap's files
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from jobrelay.kube.objects import Pod
from jobrelay.resources import PROGRAMS

JOBS: Final = ".jobs"
CONFIG: Final = "config"
STATE: Final = "state.json"
LOCK: Final = "lock"
RUNNER_LOG: Final = "runner.log"

#: As the image's WORKDIR: where the packages jobrelay_runner and jobrelay_train are.
WORKING_FOLDER: Final = PROGRAMS
#: Where the package jobrelay is.
LAUNCHER_FOLDER: Final = Path(__file__).resolve().parents[3]


def job_folder(root: Path, name: str) -> Path:
    return root / JOBS / name


def config_folder(root: Path, name: str) -> Path:
    return root / JOBS / CONFIG / name


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Wait for other launchers that decide about Jobs of this volume."""
    folder = root / JOBS
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def remove(folder: Path) -> None:
    """Remove a Job's folder, at once for all who look for it: a launcher that is killed here leaves no half.

    Raises PermissionError, if the folder may not be removed.
    """
    hidden = folder.with_name(f".old-{uid()}")
    with suppress(FileNotFoundError):  # it is gone already
        folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def log_name(pod: Pod, container: str) -> str:
    return f"{pod['metadata']['name']}.{container}.log"


def now() -> str:
    """RFC 3339 in UTC, with microseconds: local Pods follow each other quickly."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def uid() -> str:
    return str(uuid.uuid4())


def suffix() -> str:
    """Five characters, as Kubernetes gives the Pods of a Job."""
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))

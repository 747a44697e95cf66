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

#: Stands for the image's WORKDIR: the folder of the packages jobrelay_runner and jobrelay_train.
WORKING_FOLDER: Final = PROGRAMS
#: The folder of the package jobrelay.
LAUNCHER_FOLDER: Final = Path(__file__).resolve().parents[3]


def job_folder(root: Path, name: str) -> Path:
    return root / JOBS / name


def config_folder(root: Path, name: str) -> Path:
    return root / JOBS / CONFIG / name


def environments() -> Path:
    """The folder of the libraries that requirements files ask for, in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "jobrelay" / "environments"


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Let only one launcher at a time create or remove Jobs on this volume; wait for the others."""
    folder = root / JOBS
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def remove(folder: Path) -> None:
    """Remove a Job's folder in one step for all readers: a launcher killed here leaves no half of it.

    Raises PermissionError if the folder may not be removed.
    """
    hidden = folder.with_name(f".old-{uid()}")
    with suppress(FileNotFoundError):  # already gone
        folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def log_name(pod: Pod, container: str) -> str:
    return f"{pod['metadata']['name']}.{container}.log"


def now() -> str:
    """The time now as RFC 3339 in UTC, with microseconds, since local Pods follow each other quickly."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def uid() -> str:
    return str(uuid.uuid4())


def suffix() -> str:
    """Five random characters, like the ends of the Pod names that Kubernetes generates."""
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))

"""What the local executor and its runners agree on: files, names, and a container as a process.

ROOT/                       stands for the PersistentVolumeClaim (./jobrelay-data)
  data/ runs/               as on a cluster
  .jobs/JOB/state.json      Job and Pods with their status; lock; one log file a container
  .jobs/config/NAME/        a ConfigMap's files
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from jobs.contract.volume import ENV_INDEX
from launcher.errors import BadInput
from launcher.manifests import ANNOTATION_INDEX

Object = dict[str, Any]

JOBS: Final = ".jobs"
CONFIG: Final = "config"
STATE: Final = "state.json"
LOCK: Final = "lock"

#: The image's WORKDIR: where the package `jobs` is.
WORKING_FOLDER: Final = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Process:
    """A container, as this machine can run it."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str


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
    """Remove a Job's folder, at once for all who look for it: whoever is killed here leaves no half of it."""
    hidden = folder.with_name(f".old-{uid()}")
    with suppress(FileNotFoundError):  # it is gone already
        folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def log_name(pod: Object, container: str) -> str:
    return f"{pod['metadata']['name']}.{container}.log"


def socket_path(folder: Path) -> Path:
    """A socket's path may have about 100 characters, so it does not lie in the Job's folder."""
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"jobrelay-{os.getuid()}-{key}.sock"


def process_of(container: Object, pod: Object, root: Path, scratch: Path) -> Process:
    """A container's command, environment and folder on this machine.

    Mounts become folders here (claim: `root`; ConfigMap: its files; emptyDir: below `scratch`), and
    every argument and variable that is a path below a mount is rewritten to it. The image is not
    used: `python` is this interpreter. Raises BadInput for what processes cannot do.
    """
    mounts = _mounts(container, pod, root, scratch)
    variables = {v["name"]: _at(_value(v, pod), mounts) for v in container.get("env") or ()}
    command = container.get("command")
    if not command:
        raise BadInput(
            f"container {container['name']} has no command, and without its image there is no other to run",
            "give the Job a command, or run it on a cluster",
        )
    arguments = [_at(_expand(a, variables), mounts) for a in [*command, *(container.get("args") or ())]]
    if arguments[0] == "python":
        arguments[0] = sys.executable
    if (index := (pod["metadata"].get("annotations") or {}).get(ANNOTATION_INDEX)) is not None:
        variables[ENV_INDEX] = index
    # the image's own environment is this one: PATH and the like
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    return Process(arguments, environment, container.get("workingDir") or str(WORKING_FOLDER))


def now() -> str:
    """RFC 3339 in UTC, with microseconds: local Pods follow each other quickly."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def uid() -> str:
    return str(uuid.uuid4())


def suffix() -> str:
    """Five characters, as Kubernetes gives the Pods of a Job."""
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


def read_text(path: Path) -> str:
    """A small text file; empty if it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def is_ours(pid: int, pod: Object) -> bool:
    """Whether the process with that number is (still) one of the Pod's."""
    name = pod["metadata"]["name"]
    environment = Path(f"/proc/{pid}/environ")
    if Path("/proc/self/environ").exists():
        try:
            return name.encode() in environment.read_bytes()
        except OSError:
            return False
    shown = subprocess.run(
        ["/bin/ps", "-E", "-ww", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return name in shown.stdout


def _mounts(container: Object, pod: Object, root: Path, scratch: Path) -> dict[str, str]:
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    mounts: dict[str, str] = {}
    for mount in container.get("volumeMounts") or ():
        volume = volumes[mount["name"]]
        if "persistentVolumeClaim" in volume:
            target = root / mount.get("subPath", "")
        elif "configMap" in volume:
            target = config_folder(root, volume["configMap"]["name"])
        elif "emptyDir" in volume:
            if volume["emptyDir"].get("medium") == "Memory":
                continue  # /dev/shm is the machine's own
            target = scratch / volume["name"]
            target.mkdir(exist_ok=True)
        else:
            kind = next(key for key in volume if key != "name")
            raise BadInput(
                f"volume {volume['name']} is a {kind}, which --local has not", "run it on a cluster"
            )
        mounts[mount["mountPath"].rstrip("/")] = str(target.resolve())
    return mounts


def _at(text: str, mounts: dict[str, str]) -> str:
    """`text`, if it is a path below a mount, as a path on this machine."""
    for mount, target in mounts.items():
        if text == mount or text.startswith(f"{mount}/"):
            return target + text[len(mount) :]
    return text


def _value(variable: Object, pod: Object) -> str:
    source = variable.get("valueFrom")
    if not source:
        return str(variable.get("value", ""))
    path = source.get("fieldRef", {}).get("fieldPath", "")
    fields = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"].get("namespace", "default"),
        "metadata.uid": pod["metadata"].get("uid", ""),
        "status.podIP": "127.0.0.1",
    }
    if path in fields:
        return str(fields[path])
    raise BadInput(
        f"variable {variable['name']} comes from {path or next(iter(source))}, which --local has not",
        "give it a value, or run it on a cluster",
    )


def _expand(text: str, variables: dict[str, str]) -> str:
    """$(NAME), as Kubernetes replaces it in commands; unknown names stay as they are."""
    return re.sub(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)", lambda m: variables.get(m[1], m[0]), text)

"""The executor of this machine: the same rendered Jobs, as processes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal

from jobs.contract import archive
from jobs.contract.check import Check, check_run
from jobs.contract.files import write_atomically
from jobs.contract.record import list_runs
from jobs.contract.volume import RunFolder, below, inside, leave_out
from launcher.errors import BadInput, EvidenceIncomplete
from launcher.executors.base import (
    ChangeCounter,
    Finding,
    Sink,
    Submission,
    Updates,
    Volume,
    adopt,
    last_lines,
    waits_early,
)
from launcher.executors.local import layout
from launcher.executors.local.health import examine_machine, has_memory_for
from launcher.hints import Command
from launcher.manifests import (
    ANNOTATION_VERDICT,
    CONFIG_FILE,
    LABEL_PLAN,
    LABEL_RUN,
    Manifests,
    Plan,
    started_early,
    without_gate,
)
from launcher.verdicts import JobView, Verdict, finished_condition

Object = dict[str, Any]

_OTHER_FOLDER = "choose another folder with --volume"

#: Seconds before another runner is started where the one before could not be followed.
_RESTART_SECONDS: Final = 1.0


class LocalExecutor:
    """Runs Jobs as processes on a folder that stands for the volume. See executors.base.Executor."""

    limits_resources = False

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def place(self) -> str:
        return f"this machine, volume {self.root}"

    def check(self, plan: Plan) -> None:
        """Raise BadInput for a Job that processes cannot run, and for a folder that is not ours."""
        with tempfile.TemporaryDirectory() as scratch:
            for job in plan.jobs.values():
                spec = job["spec"]["template"]["spec"]
                for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
                    pod = {"metadata": {"name": "check"}, "spec": spec}
                    layout.process_of(container, pod, self.root, Path(scratch))
        nearest = next(path for path in (self.root, *self.root.parents) if path.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise BadInput(f"{self.root} cannot be written", _OTHER_FOLDER)

    def share(self, shared: Sequence[Object]) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{self.root} cannot be made: {error.strerror}", _OTHER_FOLDER) from error

    def configure(self, config_map: Object) -> None:
        folder = layout.config_folder(self.root, config_map["metadata"]["name"])
        folder.mkdir(parents=True, exist_ok=True)
        # whole at every moment: a Job that is adopted may just read it
        write_atomically(folder / CONFIG_FILE, config_map["data"][CONFIG_FILE])

    def name_pods(self, service: Object) -> None:
        """Nothing: on one machine they find each other by the volume."""

    def find_run(self, plan_hash: str) -> str | None:
        runs = [job for job, _ in self.jobs() if job["metadata"]["labels"].get(LABEL_PLAN) == plan_hash]
        return str(runs[-1]["metadata"]["labels"][LABEL_RUN]) if runs else None

    def watch(self, plan: Plan) -> AbstractContextManager[Updates]:
        return contextlib.nullcontext(_LocalUpdates(self.root))

    def start_early(self, job: Object, before: Object, beside: Object | None) -> Submission | None:
        folder = layout.job_folder(self.root, job["metadata"]["name"])
        if (beside and not has_memory_for(job)) or not _create(folder, started_early(job, before)):
            return None
        start_runner(folder)
        return Submission(_read_state(folder)["job"], "early")

    def withdraw(self, job: Object) -> None:
        name = job["metadata"]["name"]
        with contextlib.suppress(FileNotFoundError):  # it was never there
            if waits_early(_read_state(layout.job_folder(self.root, name))["job"]):
                self._delete(name)

    def submit(self, job: Object) -> Submission:
        job = without_gate(job)
        name = job["metadata"]["name"]
        folder = layout.job_folder(self.root, name)
        how: Literal["created", "replaced"] = "created"
        with layout.one_at_a_time(self.root):  # else the slower one would remove what the faster has made
            while True:
                if _create(folder, job):
                    start_runner(folder)
                    return Submission(_read_state(folder)["job"], how)
                if _is_torn(folder):
                    layout.remove(folder)
                    continue
                try:
                    live = _read_state(folder)["job"]
                except FileNotFoundError:
                    continue  # removed meanwhile
                if adopt(job, live):
                    if not finished_condition(live):
                        start_runner(folder)  # ends at once where one is at work
                    return Submission(live, "adopted")
                how = "replaced"
                layout.remove(folder)

    def stop(self, submission: Submission, verdict: Verdict) -> None:
        folder = layout.job_folder(self.root, submission.name)
        annotations = {ANNOTATION_VERDICT: verdict.to_annotation()}
        _request(folder, {"verb": "stop", "annotations": annotations})

    def read_log(self, pod: Object, container: str, sink: Sink) -> None:
        folder = layout.job_folder(self.root, _job_name(pod))
        path = folder / layout.log_name(pod, container)
        with path.open("rb") as log:
            for state in _messages(folder):
                while chunk := log.read(65536):
                    sink(chunk)
                if _has_ended(state, pod, container):
                    break
            while chunk := log.read(65536):
                sink(chunk)

    def log_tail(self, pod: Object, container: str, lines: int | None, follow: bool, sink: Sink) -> None:
        path = layout.job_folder(self.root, _job_name(pod)) / layout.log_name(pod, container)
        if not path.exists():
            raise LookupError(f"{path} is gone")
        if follow and lines is None:
            self.read_log(pod, container, sink)
            return
        content = path.read_bytes()
        sink(last_lines(content, lines))
        if follow:
            self.read_log(pod, container, _skipping(len(content), sink))

    def jobs(self, run: str | None = None) -> list[tuple[Object, Sequence[Object]]]:
        states = []
        for path in (self.root / layout.JOBS).glob(f"[!.]*/{layout.STATE}"):
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                states.append(_read_state(path.parent))
        states.sort(key=lambda state: str(state["job"]["metadata"]["creationTimestamp"]))
        return [
            (state["job"], state["pods"])
            for state in states
            if run in (None, state["job"]["metadata"]["labels"].get(LABEL_RUN))
        ]

    def volume(self, run: str | None = None) -> AbstractContextManager[Volume]:
        return contextlib.nullcontext(_LocalVolume(self.root))

    def examine(self, manifests: Manifests) -> list[Finding]:
        return examine_machine(self.root, manifests)

    def cancel(self, run: str) -> list[str]:
        names = [job["metadata"]["name"] for job, _ in self.jobs(run) if not finished_condition(job)]
        for name in names:
            self._delete(name)
        return names

    def expire(self, run: str, seconds: int) -> bool:
        return False  # there is no controller here; `delete` removes them

    def delete(self, run: str) -> list[str]:
        names = [job["metadata"]["name"] for job, _ in self.jobs(run)]
        for name in names:
            self._delete(name)
        configs = sorted((self.root / layout.JOBS / layout.CONFIG).glob(f"{run}-config-*"))
        for config in configs:
            shutil.rmtree(config)
        return [f"Job {name}" for name in names] + [f"ConfigMap {config.name}" for config in configs]

    def _delete(self, name: str) -> None:
        folder = layout.job_folder(self.root, name)
        if _request(folder, {"verb": "delete"}):
            return
        layout.remove(folder)


class _LocalUpdates(ChangeCounter):
    """Updates (see executors.base) from the runners' sockets: one connection a Job.

    A Job is known by its UID: one that was made anew under the same name is another.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._states: dict[str, Object | None] = {}
        self._followed: set[str] = set()

    def view(self, submission: Submission) -> JobView:
        uid = submission.job["metadata"]["uid"]
        if uid not in self._followed:
            self._followed.add(uid)
            folder = layout.job_folder(self._root, submission.name)
            self._states[uid] = _if_of(uid, _read_state(folder))
            threading.Thread(target=self._follow, args=(folder, uid), daemon=True).start()
        state = self._states[uid]
        return JobView(state["job"], state["pods"]) if state else JobView(None)

    def _follow(self, folder: Path, uid: str) -> None:
        try:
            for state in _messages(folder):
                if "log" in state:
                    continue
                self._states[uid] = _if_of(uid, state)
                self.changed()
                if self._states[uid] is None:
                    return  # the Job that was followed is gone
        except FileNotFoundError:
            self._states[uid] = None
            self.changed()
        except Exception as error:
            self.failed(error)


class _LocalVolume:
    """The volume is a folder here. See executors.base.Volume."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def runs(self) -> list[Object]:
        return list_runs(self._root)

    def send(self, folder: str, *, everything: bool) -> Iterator[bytes]:
        path = inside(self._root, folder)
        if not path.is_dir():
            raise EvidenceIncomplete(f"{folder} is not on the volume {self._root}", Command("list"))
        return archive.packed(path, leave_out(everything))

    def receive(self, source: Path, folder: str) -> None:
        stream = archive.stream_of(archive.packed(source))
        archive.unpack(stream, inside(self._root, folder))

    def exists(self, path: str) -> bool:
        return below(self._root, path).exists()

    def check(self, run: str) -> list[Check]:
        return check_run(RunFolder(self._root, run))

    def remove(self, folder: str) -> None:
        shutil.rmtree(inside(self._root, folder))


def start_runner(folder: Path) -> None:
    """Start a Job's runner in a session of its own and wait until it can be followed."""
    read_end, write_end = os.pipe()
    arguments = [sys.executable, "-m", "launcher.executors.local.runner", str(folder), str(write_end)]
    with (folder / "runner.log").open("ab") as log:
        subprocess.Popen(
            arguments, cwd=layout.WORKING_FOLDER, pass_fds=[write_end], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    os.close(write_end)
    with os.fdopen(read_end, "rb") as ready:
        ready.read()  # the end comes when the runner listens, or has ended


def _create(folder: Path, job: Object) -> bool:
    """Make the Job's folder, whole or not at all; False if there is one of that name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    metadata = {**job["metadata"], "uid": layout.uid(), "creationTimestamp": layout.now()}
    state = {"job": {**job, "metadata": metadata, "status": {}}, "pods": []}
    incoming = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        (incoming / layout.STATE).write_text(json.dumps(state))
        return _renamed(incoming, folder)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)  # there no more if it has its name


def _renamed(incoming: Path, folder: Path) -> bool:
    """Give a folder its name; False where one that is not empty has it."""
    try:
        incoming.rename(folder)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    return True


def _is_torn(folder: Path) -> bool:
    """Whether there is a Job's folder without its state: somebody was killed while removing it."""
    return folder.is_dir() and not (folder / layout.STATE).exists()


def _if_of(uid: str, state: Object) -> Object | None:
    """`state`, if it is of the Job with that UID, and not of a later one of its name."""
    return state if state["job"]["metadata"]["uid"] == uid else None


def _read_state(folder: Path) -> Object:
    state: Object = json.loads((folder / layout.STATE).read_text())
    return state


def _messages(folder: Path) -> Iterator[Object]:
    """The Job's state now and at every change, and {"log": POD} when one has printed.

    Ends with the final state. A runner that was killed is started anew. Raises FileNotFoundError
    when the Job is deleted.
    """
    in_vain = False
    while True:
        with contextlib.suppress(OSError), _connect(folder) as connection, connection.makefile("rb") as lines:
            in_vain = False
            for line in lines:
                yield json.loads(line)
        state = _read_state(folder)
        if finished_condition(state["job"]):
            yield state
            return
        if in_vain:  # it ends before it listens, or another is about to end
            time.sleep(_RESTART_SECONDS)
        start_runner(folder)
        in_vain = True  # until it is followed


def _connect(folder: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(layout.socket_path(folder)))
    except OSError:
        connection.close()
        raise
    return connection


def _request(folder: Path, request: Object) -> bool:
    """Ask a Job's runner for something and wait until it has ended; False if none is at work."""
    try:
        with _connect(folder) as connection, connection.makefile("rb") as lines:
            connection.sendall(json.dumps(request).encode() + b"\n")
            for _ in lines:
                pass
    except OSError:
        return False
    return True


def _job_name(pod: Object) -> str:
    """The Job that owns a Pod."""
    return str(pod["metadata"]["ownerReferences"][0]["name"])


def _has_ended(state: Object, pod: Object, container: str) -> bool:
    for known in state.get("pods") or ():
        if known["metadata"]["name"] != pod["metadata"]["name"]:
            continue
        statuses = [*known["status"]["initContainerStatuses"], *known["status"]["containerStatuses"]]
        return any(s["name"] == container and "terminated" in s["state"] for s in statuses)
    return False


def _skipping(count: int, sink: Sink) -> Callable[[bytes], None]:
    left = count

    def give(chunk: bytes) -> None:
        nonlocal left
        skipped = min(left, len(chunk))
        left -= skipped
        if chunk[skipped:]:
            sink(chunk[skipped:])

    return give

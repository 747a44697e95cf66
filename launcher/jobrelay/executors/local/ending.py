"""End a Job on request: stop all its processes, then remove or conclude it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from jobrelay.errors import JobRelayError
from jobrelay.executors.local import contact, job_folder, layout, liveness
from jobrelay.kube.objects import ContainerStatus, Job, Object, Pod
from jobrelay.kube.read import finished_condition
from jobrelay_runner.volume.files import write_atomically

#: Seconds that a runner may take to end, beyond the grace period of its containers.
_SLACK_SECONDS: Final = 15.0
_KILLED_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.1
_DEFAULT_GRACE: Final = 30


def end(folder: Path) -> None:
    """Stop all processes of a Job, then remove its folder. Raises as `_stop` does."""
    _stop(folder, {"verb": "delete"}, layout.remove)


def give_up(folder: Path, annotations: dict[str, str]) -> None:
    """Stop all processes of a Job and mark it failed; the annotations give the reason.

    Raises as `_stop` does.
    """

    def conclude(folder: Path) -> None:
        """Write the failed state in place of a runner that could not."""
        state = job_folder.read_state(folder)
        job = state["job"]
        if finished_condition(job):
            return
        job["metadata"].setdefault("annotations", {}).update(annotations)
        for pod in state["pods"]:
            if pod["status"]["phase"] in ("Pending", "Running"):
                pod["status"]["phase"] = "Failed"
        condition = {
            "type": "Failed",
            "status": "True",
            "reason": "DeadlineExceeded",
            "message": "it was given up",
        }
        job["status"].setdefault("conditions", []).append({**condition, "lastTransitionTime": layout.now()})
        write_atomically(folder / layout.STATE, json.dumps(state))

    _stop(folder, {"verb": "stop", "annotations": annotations}, conclude)


def _stop(folder: Path, asked: Object, conclude: Callable[[Path], None]) -> None:
    """Stop a Job's runner and containers, then `conclude`, while no other runner can start.

    A runner that its socket does not reach gets a signal; if it ignores that, it is killed, and this
    function ends the containers it left. Raises JobRelayError if something still runs (the folder then
    still exists), and FileNotFoundError if there is no such Job.
    """
    owner = job_folder.owner_to_end(folder)
    state = job_folder.read_state(folder)
    uid = state["job"]["metadata"]["uid"]
    patience = grace_of(state["job"]) + _SLACK_SECONDS
    deadlines: dict[liveness.Holder | None, float] = {}
    killed: set[liveness.Holder | None] = set()
    while _is_there(folder, uid):
        with liveness.held(folder) as lock:
            if lock is not None:
                if _is_there(folder, uid):  # unless a new Job has taken the name meanwhile
                    _end_orphans(folder, owner)
                    conclude(folder)
                return
        holder = liveness.holder_of(folder)
        if holder not in deadlines:  # a launcher that follows the Job may have started another runner
            deadlines[holder] = time.monotonic() + patience
            if not contact.request(folder, asked, patience) and holder:
                _signal(folder, holder, owner, signal.SIGTERM)
        elif time.monotonic() >= deadlines[holder]:
            if holder is None or holder in killed:
                raise _still_runs(folder, "its runner")
            killed.add(holder)
            deadlines[holder] = time.monotonic() + _KILLED_SECONDS
            _signal(folder, holder, owner, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)


def grace_of(job: Job) -> float:
    """Seconds between SIGTERM and SIGKILL for a Job's containers."""
    return float(job["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE))


def running(pods: list[Pod]) -> Iterator[ContainerStatus]:
    """The status of every container that runs, according to the state."""
    for pod in pods:
        if pod["status"]["phase"] in ("Pending", "Running"):
            for status in [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]:
                if "running" in status["state"]:
                    yield status


def kill_containers(pods: list[Pod], owner: int, grace: float) -> list[int]:
    """End the containers that a killed runner left; returns the process IDs that did not end."""
    left = [
        (status["pid"], status["started"])
        for status in running(pods)
        if liveness.lives(status.get("pid", 0), status.get("started", ""))
    ]
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILLED_SECONDS)):
        for pid, since in left:
            liveness.signal_process(pid, since, owner, number, group=True)
        deadline = time.monotonic() + seconds
        left = [
            (pid, since)
            for pid, since in left
            if not liveness.ends_within(pid, since, max(deadline - time.monotonic(), 0))
        ]
    return [pid for pid, _ in left]


def _end_orphans(folder: Path, owner: int) -> None:
    """End containers without a runner. The caller holds the Job's lock."""
    state = job_folder.read_state(folder)
    holder = liveness.holder_of(folder)
    if holder and holder.elsewhere and any(running(state["pods"])):
        raise _still_runs(folder, f"a process of its runner on {holder.node}")
    try:
        left = kill_containers(state["pods"], owner, grace_of(state["job"]))
    except PermissionError as error:
        raise _still_runs(folder, "a process of another user") from error
    if left:
        raise _still_runs(folder, "process " + ", ".join(map(str, left)))


def _signal(folder: Path, holder: liveness.Holder, owner: int, number: signal.Signals) -> None:
    if holder.elsewhere:
        raise _still_runs(folder, f"its runner, process {holder.pid} on {holder.node},")
    try:
        liveness.signal_process(holder.pid, holder.started, owner, number)
    except PermissionError as error:
        raise _still_runs(folder, f"its runner, process {holder.pid}, which you may not end") from error


def _is_there(folder: Path, uid: str) -> bool:
    try:
        return bool(job_folder.read_state(folder)["job"]["metadata"]["uid"] == uid)
    except FileNotFoundError:
        return False


def _still_runs(folder: Path, what: str) -> JobRelayError:
    return JobRelayError(
        f"Job {folder.name} could not be stopped: {what} still runs",
        f"end it where it runs, then run the same command again; until then {folder} stays",
    )

"""Jobs, Pods and Events as API servers send them, in a short form.

The Jobs are those that the launcher sends (k8s/base, rendered); only their status is invented.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from jobrelay import manifests
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.record import Closing, Cost, LogDigest
from jobrelay_train.config.schema import RunConfig

Object = dict[str, Any]

RUN = "mnist-a"
NODE = "kind-control-plane"
T0 = "2026-11-21T14:22:33Z"


@functools.cache
def base() -> manifests.Manifests:
    return manifests.load(manifests.BASE)


@functools.cache
def plan() -> manifests.Plan:
    return manifests.render(base(), RunConfig(), RUN)


def job(
    stage: Stage = "train",
    *conditions: Object,
    status: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> Object:
    """A Job as the launcher sends it (without the gate), with a uid and a status."""
    item = manifests.without_gate(plan().jobs[stage])
    item["metadata"].update(uid=f"uid-{stage}", creationTimestamp=T0, resourceVersion="1")
    item["metadata"]["annotations"].update(annotations or {})
    item["spec"].update(spec)
    item["status"] = {"startTime": T0, **(status or {})}
    if conditions:
        item["status"]["conditions"] = list(conditions)
    return item


def pod(
    of: Object, phase: str = "Running", suffix: str = "x7k2p", created: str = T0, **status: Any
) -> Object:
    """A Pod of that Job. status: what stands beside the phase."""
    template = copy.deepcopy(of["spec"]["template"])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{of['metadata']['name']}-{suffix}",
            "uid": f"uid-{of['metadata']['name']}-{suffix}",
            "creationTimestamp": created,
            "labels": template["metadata"]["labels"],
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": of["metadata"]["name"],
                 "uid": of["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}
            ],
        },
        "spec": template["spec"],
        "status": {"phase": phase, "qosClass": "Burstable", **status},
    }  # fmt: skip


def condition(kind: str, value: str = "True", reason: str = "", message: str = "") -> Object:
    """A condition of a Job or a Pod; reason and message are left out where a server leaves them out."""
    found = {"type": kind, "status": value, "lastProbeTime": None, "lastTransitionTime": T0}
    found |= {"reason": reason} if reason else {}
    return found | ({"message": message} if message else {})


SCHEDULED = condition("PodScheduled")


def container(name: str = "train", **state: Any) -> Object:
    """A containerStatus. state: waiting={…}, running={…} or terminated={…}; none is {}."""
    return {
        "name": name,
        "image": "jobrelay:0.1.0",
        "imageID": "",
        "lastState": {},
        "ready": "running" in state,
        "restartCount": 0,
        "started": "running" in state,
        "state": state,
    }


def waiting(reason: str, message: str = "", name: str = "train") -> Object:
    return container(name, waiting={"reason": reason} | ({"message": message} if message else {}))


def running(name: str = "train") -> Object:
    return container(name, running={"startedAt": T0})


def terminated(code: int, reason: str = "Error", message: str = "", name: str = "train") -> Object:
    state: Object = {"exitCode": code, "reason": reason, "startedAt": T0, "finishedAt": T0}
    state |= {"containerID": "containerd://6f1c"}
    return container(name, terminated=state | ({"message": message} if message else {}))


def pending(of: Object, *statuses: Object, **status: Any) -> Object:
    """A Pod that has its node and whose containers wait."""
    return pod(of, "Pending", **{"conditions": [SCHEDULED], "containerStatuses": list(statuses), **status})


def failed(of: Object, *statuses: Object, **status: Any) -> Object:
    return pod(of, "Failed", **{"conditions": [SCHEDULED], "containerStatuses": list(statuses), **status})


def event(about: Object | str, reason: str, message: str, kind: str = "Warning") -> Object:
    """An event about an object, or about one of that name, as `GET /api/v1/events` shows it."""
    name = about if isinstance(about, str) else about["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.17a1", "uid": f"uid-{name}-{reason}", "creationTimestamp": T0},
        "involvedObject": {"kind": "Pod", "namespace": "jobrelay", "name": name},
        "reason": reason,
        "message": message,
        "type": kind,
        "firstTimestamp": T0,
        "lastTimestamp": T0,
        "eventTime": None,
        "count": 1,
        "source": {"component": "kubelet", "host": NODE},
        "reportingComponent": "kubelet",
        "reportingInstance": NODE,
    }


def closing(
    stage: Stage = "train",
    code: int = 0,
    error: str | None = None,
    peak_bytes: int = 812 * 2**20,
    metrics: Mapping[str, float] | None = None,
    oom_kills: int = 0,
) -> str:
    """A stage's termination message."""
    return Closing(
        oom_kills=oom_kills,
        stage=stage,
        exit_code=code,
        error=error,
        metrics=dict(metrics or {}),
        log=LogDigest(sha256="0" * 64, bytes=0, lines=0, file=f"logs/{stage}-pod.log"),
        cost=Cost(
            wall_seconds=12.5, cpu_seconds=20.0, peak_memory_bytes=peak_bytes, peak_memory_from="cgroup"
        ),
    ).message()


def names(items: Sequence[Object]) -> list[str]:
    return [f"{item['kind']} {item['metadata']['name']}" for item in items]

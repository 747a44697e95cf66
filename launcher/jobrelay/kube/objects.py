"""The Kubernetes objects that the launcher reads: the fields it knows, and no others.

They are plain dictionaries, as an API server sends them and a manifest writes them. Any field may be
absent, and a server may send more; fields that no type here declares are passed on unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Required, TypeAlias, TypedDict, final

#: A JSON object of unknown shape: a manifest of any kind, an answer of the API, a record.
Object: TypeAlias = dict[str, Any]
#: A read-only object of any kind, known or not.
AnyObject: TypeAlias = Mapping[str, Any]


class OwnerReference(TypedDict, total=False):
    apiVersion: str
    kind: str
    name: str
    uid: str


class Metadata(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    labels: dict[str, str]
    annotations: dict[str, str]
    ownerReferences: list[OwnerReference]
    creationTimestamp: str
    deletionTimestamp: str
    deletionGracePeriodSeconds: int
    finalizers: list[str]


class Condition(TypedDict, total=False):
    """A condition of a Job or a Pod."""

    type: str
    status: str
    reason: str
    message: str
    lastTransitionTime: str


class EnvVar(TypedDict, total=False):
    name: str
    value: str
    valueFrom: Object


class Resources(TypedDict, total=False):
    """Quantities, as text or as numbers: 500m, 2Gi, 1."""

    requests: dict[str, Any]
    limits: dict[str, Any]


class Container(TypedDict, total=False):
    name: str
    image: str
    command: list[str]
    args: list[str]
    workingDir: str
    env: list[EnvVar]
    envFrom: list[Object]
    resources: Resources
    volumeMounts: list[Object]
    restartPolicy: str
    terminationMessagePolicy: str
    startupProbe: Object


class Volume(TypedDict, total=False):
    name: str
    persistentVolumeClaim: dict[str, str]
    configMap: dict[str, Any]
    emptyDir: Object


@final
class PodSpec(TypedDict, total=False):
    containers: list[Container]
    initContainers: list[Container]
    volumes: list[Volume]
    nodeName: str
    subdomain: str
    affinity: Object
    tolerations: list[Object]
    schedulingGates: list[Object]
    restartPolicy: str
    activeDeadlineSeconds: int
    terminationGracePeriodSeconds: int


class PodTemplate(TypedDict, total=False):
    metadata: Metadata
    spec: PodSpec


class WaitingState(TypedDict, total=False):
    reason: str
    message: str


class RunningState(TypedDict, total=False):
    startedAt: str


class TerminatedState(TypedDict, total=False):
    exitCode: int
    reason: str
    message: str
    startedAt: str
    finishedAt: str


class ContainerState(TypedDict, total=False):
    """A container's state: one of three keys, or empty before the kubelet reports any."""

    waiting: WaitingState
    running: RunningState
    terminated: TerminatedState


class ContainerStatus(TypedDict, total=False):
    name: str
    state: ContainerState
    restartCount: int
    # set by the local executor: the process, and when it started
    pid: int
    started: str


class PodStatus(TypedDict, total=False):
    phase: str
    reason: str
    message: str
    startTime: str
    conditions: list[Condition]
    initContainerStatuses: list[ContainerStatus]
    containerStatuses: list[ContainerStatus]


class Pod(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: Metadata
    spec: PodSpec
    status: PodStatus


@final
class JobSpec(TypedDict, total=False):
    template: Required[PodTemplate]
    backoffLimit: int
    completionMode: str
    completions: int
    parallelism: int
    suspend: bool
    managedBy: str
    activeDeadlineSeconds: int
    ttlSecondsAfterFinished: int
    podFailurePolicy: Object
    podReplacementPolicy: str


class JobStatus(TypedDict, total=False):
    startTime: str
    completionTime: str
    conditions: list[Condition]
    succeeded: int
    failed: int


class Job(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: Metadata
    spec: JobSpec
    status: JobStatus


class Event(TypedDict, total=False):
    kind: str
    metadata: Metadata
    reason: str
    message: str
    involvedObject: dict[str, str]
    lastTimestamp: str

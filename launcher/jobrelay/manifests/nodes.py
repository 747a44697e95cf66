"""A stage of several Pods: an Indexed Job, and the Service that gives its Pods the names they use."""

from __future__ import annotations

from typing import Final

from jobrelay.kube.labels import LABEL_COMPONENT, LABEL_NODES, LABEL_RUN, run_labels
from jobrelay.kube.objects import Job, Object
from jobrelay.kube.read import main_container, pods_of
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import ENV_ADDRESS, ENV_LEADER

#: Older servers have no Indexed Jobs, keep them behind a feature gate, or give their Pods no hostname; and
#: 1.20 silently drops the fields: each Pod would then train alone.
INDEXED_SINCE: Final = 24

#: Kubernetes's default.
_BACKOFF_LIMIT: Final = 6

_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def spread(job: Job, nodes: int) -> None:
    """Make it an Indexed Job of `nodes` Pods, on different nodes where possible."""
    if nodes == 1:
        return
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    spec["completionMode"], spec["completions"], spec["parallelism"] = "Indexed", nodes, nodes
    # Kubernetes counts Pods. When one is lost, the others of its attempt end with PEER_LOST, and only a
    # podFailurePolicy (1.26) can exclude them from the count; without one, allow for all Pods of each
    # attempt.
    spec["backoffLimit"] = (spec.get("backoffLimit", _BACKOFF_LIMIT) + 1) * nodes - 1
    labels = job["spec"]["template"].setdefault("metadata", {}).setdefault("labels", {})
    labels[LABEL_NODES] = str(nodes)  # networkpolicy-peers.yaml allows traffic between these
    # other stages prefer the node of a ReadWriteOnce volume; here that preference would put all Pods on one
    # node
    affinity = pod.setdefault("affinity", {})
    affinity.get("podAffinity", {}).pop(_PREFERRED, None)
    if not affinity.get("podAffinity"):
        affinity.pop("podAffinity", None)
    main_container(job).setdefault("env", []).append(
        {"name": ENV_ADDRESS, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    )


def join(job: Job, stage: Stage, run: str) -> None:
    """Set what depends on the run's name in a multi-Pod Job: anti-affinity, Service and leader."""
    if pods_of(job) == 1:
        return
    pod = job["spec"]["template"]["spec"]
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": _selector(stage, run)},
    }
    apart = pod["affinity"].setdefault("podAntiAffinity", {}).setdefault(_PREFERRED, [])
    apart.append({"weight": 100, "podAffinityTerm": term})
    pod["subdomain"] = service_name(stage, run)
    leader = f"{job['metadata']['name']}-0.{pod['subdomain']}"
    main_container(job)["env"].append({"name": ENV_LEADER, "value": leader})


def service_of(job: Job, stage: Stage, run: str) -> Object:
    """The headless Service that gives each Pod of the Job a DNS name, even before it is ready."""
    metadata = {
        "name": service_name(stage, run),
        "namespace": job["metadata"]["namespace"],
        "labels": {**run_labels(run), LABEL_COMPONENT: stage},
    }
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": _selector(stage, run)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def service_name(stage: Stage, run: str) -> str:
    """The Service's name. It must start with a letter, which a run's name need not."""
    return f"{stage}-{run}"


def count_causes_alone(job: Job) -> None:
    """Reset the backoffLimit, as a podFailurePolicy excludes Pods that only followed a lost one."""
    if (pods := pods_of(job)) > 1:
        job["spec"]["backoffLimit"] = (job["spec"]["backoffLimit"] + 1) // pods - 1


def _selector(stage: Stage, run: str) -> dict[str, str]:
    return {LABEL_RUN: run, LABEL_COMPONENT: stage}

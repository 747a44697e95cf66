"""What stages ask for that the cluster may not have at all: devices such as GPUs, and Secrets."""

from __future__ import annotations

from typing import Final

from jobrelay.errors import BadInput
from jobrelay.executors.cluster.api import Api, ApiError, collection
from jobrelay.executors.cluster.capacity import schedulable_nodes
from jobrelay.kube.quantities import parse_quantity
from jobrelay.kube.read import has_runner, main_container
from jobrelay.manifests import Plan

#: Every node has these.
_COMMON: Final = ("cpu", "memory", "ephemeral-storage")


def check_prerequisites(api: Api, plan: Plan) -> None:
    """Raise BadInput for a device that no node has, or a Secret that is not there.

    Only for stages of your own, which jobrelay.yaml or a compose file describes; manifests may be ahead of
    their cluster. A user who may not look is not stopped.
    """
    jobs = {stage: job for stage, job in plan.jobs.items() if has_runner(main_container(job))}
    wanted: dict[str, list[str]] = {}
    secrets: dict[str, list[str]] = {}
    for stage, job in jobs.items():
        main = main_container(job)
        for name in main.get("resources", {}).get("limits") or {}:
            if name not in _COMMON:
                wanted.setdefault(name, []).append(stage)
        for variable in main.get("env") or ():
            if source := (variable.get("valueFrom") or {}).get("secretKeyRef"):
                secrets.setdefault(source["name"], []).append(stage)
    if wanted:
        _check_devices(api, wanted)
    for name, stages in secrets.items():
        _check_secret(api, plan.namespace, name, stages)


def _check_devices(api: Api, wanted: dict[str, list[str]]) -> None:
    try:
        nodes = schedulable_nodes(api)
    except ApiError:
        return
    for name, stages in wanted.items():
        if not any(parse_quantity(node["status"]["allocatable"].get(name, "0")) for node in nodes):
            raise BadInput(
                f"{', '.join(stages)}: no node of context {api.context} has {name}",
                "install the device plugin of its vendor, set gpu_type, or leave gpus out",
            )


def _check_secret(api: Api, namespace: str, name: str, stages: list[str]) -> None:
    try:
        api.get(f"{collection('v1', 'secrets', namespace)}/{name}")
    except ApiError as error:
        if error.status == 404:
            raise BadInput(
                f"{', '.join(stages)}: Secret {name} does not exist in namespace {namespace}",
                f"kubectl create secret generic {name} -n {namespace} --from-literal=KEY=VALUE",
            ) from error

"""Free resources of nodes: what is allocatable, less what their Pods request."""

from __future__ import annotations

from collections.abc import Iterable

from jobrelay.executors.cluster.api import Api, collection
from jobrelay.kube.objects import Container, Job, Object, Pod
from jobrelay.kube.quantities import parse_quantity
from jobrelay.kube.read import main_container

Room = dict[str, float]


def schedulable_nodes(api: Api) -> list[Object]:
    return [node for node in api.get("/api/v1/nodes")["items"] if not node["spec"].get("unschedulable")]


def free_room(api: Api, nodes: Iterable[Object], node: str | None = None) -> dict[str, Room]:
    """What is left of every resource, by node. node: count only this node's Pods. Raises ApiError."""
    selector = "status.phase!=Succeeded,status.phase!=Failed" + (f",spec.nodeName={node}" if node else "")
    free = {node["metadata"]["name"]: _numbers(node["status"]["allocatable"]) for node in nodes}
    for pod in api.get("/api/v1/pods", fieldSelector=selector)["items"]:
        left = free.get(pod["spec"].get("nodeName"), {})
        for container in pod["spec"]["containers"]:
            for resource, number in _asked(container).items():
                left[resource] = left.get(resource, 0.0) - number
    return free


def asked_by(job: Job) -> Room:
    """The resources that a Job's stage requests."""
    return _asked(main_container(job))


def fits(asked: Room, free: Room) -> bool:
    return all(free.get(resource, 0.0) >= number for resource, number in asked.items())


def is_free_beside(api: Api, job: Job, pod: Pod, claim: str) -> bool:
    """Whether a Pod of the Job can run now on the node of `pod` and will be scheduled there. Raises ApiError.

    With several nodes and a volume that only one may mount, the scheduler may choose another node, where
    the Pod could not start yet. With a quota, the working Pod may need what is left of it.
    """
    namespace, node = pod["metadata"]["namespace"], pod["spec"].get("nodeName")
    nodes = schedulable_nodes(api) if node else []
    if not node or not fits(asked_by(job), free_room(api, nodes, node).get(node, {})):
        return False
    if len(nodes) > 1:
        modes = api.get(f"{collection('v1', 'persistentvolumeclaims', namespace)}/{claim}")["spec"][
            "accessModes"
        ]
        if "ReadWriteMany" not in modes:
            return False
    return not api.get(collection("v1", "resourcequotas", namespace))["items"]


def _asked(container: Container) -> Room:
    resources = container.get("resources") or {}
    # a limit without a request counts as a request, too: the API server fills it in
    return _numbers({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _numbers(quantities: Object) -> Room:
    return {resource: parse_quantity(quantity) for resource, quantity in quantities.items()}

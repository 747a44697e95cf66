"""What a run needs of a cluster, checked before anything is created."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.executors.cluster.api import Api, ApiError
from jobrelay.executors.cluster.parallel import in_parallel
from jobrelay.executors.cluster.resources import Resources
from jobrelay.kube.objects import Object
from jobrelay.kube.read import pods_of
from jobrelay.manifests import INDEXED_SINCE, Plan


@dataclass(frozen=True)
class Right:
    verb: str
    resource: str  # pods, pods/log, …
    group: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'.' + self.group if self.group else ''}"


#: The rights to drive a run to its verdict and fetch its results.
RIGHTS: Final = (
    *(Right(verb, "jobs", "batch") for verb in ("create", "get", "list", "watch", "patch", "delete")),
    *(Right(verb, "pods") for verb in ("create", "get", "list", "watch", "delete")),
    Right("get", "pods/log"),
    Right("create", "pods/exec"),
    Right("get", "pods/exec"),  # a WebSocket starts as a GET
    *(Right(verb, "events") for verb in ("list", "watch")),
    *(Right(verb, "configmaps") for verb in ("create", "list", "delete")),
)
#: Further rights for training on several nodes.
SERVICE_RIGHTS: Final = tuple(Right(verb, "services") for verb in ("create", "list", "delete"))
#: Further rights to create, once, what all runs share.
SHARED_RIGHTS: Final = (
    *(Right(verb, "persistentvolumeclaims") for verb in ("create", "get", "patch")),
    *(Right(verb, "serviceaccounts") for verb in ("create", "get", "patch")),
    *(Right(verb, "networkpolicies", "networking.k8s.io") for verb in ("create", "get", "patch")),
)


def missing_rights(api: Api, namespace: str, rights: Iterable[Right] = RIGHTS) -> list[Right]:
    """Those of `rights` that the current user does not have in the namespace."""
    wanted = list(rights)
    answers = in_parallel(lambda right: _allowed(api, namespace, right), wanted)
    return [right for right, yes in zip(wanted, answers, strict=True) if not yes]


def may_do_everything(api: Api) -> bool:
    """Whether the user is an administrator: one request instead of thirty."""
    return _allowed(api, "", Right("*", "*", "*"))


def _allowed(api: Api, namespace: str, right: Right) -> bool:
    resource, _, subresource = right.resource.partition("/")
    attributes = {
        "namespace": namespace,
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {},
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    answer = api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
    return bool(answer.get("status", {}).get("allowed"))


def check_rights(api: Api, namespace: str, rights: Iterable[Right] = RIGHTS) -> None:
    """Raise BadInput that names every missing right."""
    missing = missing_rights(api, namespace, rights)
    if missing:
        raise BadInput(
            f"no permission in namespace {namespace} (context {api.context}): {', '.join(map(str, missing))}",
            "k8s/base/rbac.yaml is a Role with all of them, for an administrator to apply; or choose another "
            "--namespace or --context",
        )


def check_absent(api: Api, resources: Resources, shared: Sequence[Object], namespace: str) -> None:
    """Raise BadInput where a shared object is missing and may not be created."""
    shared = [resources.placed(item, namespace) for item in shared]

    def is_absent(item: Object) -> bool:
        try:
            api.get(resources.path_of(item))
        except ApiError as error:
            if error.status == 404:
                return True
            if error.status != 403:
                raise
            # the user may not read it; if it is missing, the Job's events report that
        return False

    for item in (item for item, yes in zip(shared, in_parallel(is_absent, shared), strict=True) if yes):
        group = item["apiVersion"].rpartition("/")[0]
        resource = resources.of(item).name
        rights = [Right("create", resource, group), Right("patch", resource, group)]
        check_rights(api, item["metadata"].get("namespace", ""), rights)


def check_version(plan: Plan, minor: int) -> None:
    """Raise BadInput where the server cannot run a stage as several Pods."""
    for stage, job in plan.jobs.items():
        if (pods := pods_of(job)) > 1 and minor < INDEXED_SINCE:
            raise BadInput(
                f"{stage} on {pods} nodes needs Indexed Jobs, and so Kubernetes 1.{INDEXED_SINCE} or newer; "
                f"this server has 1.{minor}",
                f"--set {stage}.nodes=1, or another --context",
            )


def minor_version(api: Api) -> int:
    """The server's minor version: 20 for Kubernetes 1.20; managed clusters write "20+"."""
    text = str(api.get("/version").get("minor", ""))
    return int("".join(filter(str.isdigit, text)) or 0)

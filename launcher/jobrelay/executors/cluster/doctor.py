"""What the cluster executor needs of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from jobrelay.errors import JobRelayError
from jobrelay.executors.base import Finding
from jobrelay.executors.cluster.api import Api, ApiError, collection
from jobrelay.executors.cluster.capacity import Room, asked_by, free_room, schedulable_nodes
from jobrelay.executors.cluster.preflight import RIGHTS, missing_rights
from jobrelay.figures import mebibytes
from jobrelay.kube.objects import Object
from jobrelay.manifests import Manifests

_SKEW_SECONDS = 30.0


def examine_cluster(api: Api, manifests: Manifests, namespace: str, image: str) -> list[Finding]:
    """Check API, rights, namespace, storage, image, free resources and clock."""
    try:
        version = api.get("/version")
    except JobRelayError as error:
        return [
            Finding(
                "cluster", "fail", error.what, "start it (make kind-up), choose another --context, or --local"
            )
        ]
    checks = _Checks(api, manifests, namespace, image)
    found = f"Kubernetes {version['gitVersion']}, context {api.context}, {api.server}"
    return [Finding("cluster", "ok", found), *map(_guarded, checks.all())]


def _guarded(check: tuple[str, Callable[[], Finding]]) -> Finding:
    """Run a check; if the user lacks the rights for it, that is a warning only."""
    name, examine = check
    try:
        return examine()
    except ApiError as error:
        return Finding(
            name, "warn", f"cannot be checked: {error.message}", "ask for permission, or skip this check"
        )


class _Checks:
    def __init__(self, api: Api, manifests: Manifests, namespace: str, image: str) -> None:
        self._api = api
        self._jobs = manifests.jobs
        self._shared = manifests.shared
        self._namespace = namespace
        self._image = image
        self._claim = manifests.claim or ""

    def all(self) -> list[tuple[str, Callable[[], Finding]]]:
        return [
            ("rights", self._rights),
            ("namespace", self._in_namespace),
            ("storage", self._storage),
            ("image", self._images),
            ("room", self._room),
            ("clock", self._clock),
        ]

    def _rights(self) -> Finding:
        missing = missing_rights(self._api, self._namespace)
        if missing:
            return Finding(
                "rights",
                "fail",
                f"missing: {', '.join(map(str, missing))}",
                "ask an administrator to apply k8s/base/rbac.yaml, and to bind it to you",
            )
        return Finding("rights", "ok", f"all {len(RIGHTS)} that a run needs, in namespace {self._namespace}")

    def _in_namespace(self) -> Finding:
        if self._find(f"/api/v1/namespaces/{self._namespace}"):
            return Finding("namespace", "ok", self._namespace)
        if any(item["kind"] == "Namespace" for item in self._shared):
            return Finding(
                "namespace", "ok", f"{self._namespace} does not exist yet; the first run creates it"
            )
        return Finding(
            "namespace",
            "fail",
            f"{self._namespace} does not exist",
            f"kubectl create namespace {self._namespace}, or choose another with -n",
        )

    def _storage(self) -> Finding:
        if not self._claim:
            return Finding("storage", "ok", "the Jobs mount no PersistentVolumeClaim")
        claim = self._find(f"{collection('v1', 'persistentvolumeclaims', self._namespace)}/{self._claim}")
        if claim and claim["status"].get("phase") == "Bound":
            size = claim["status"].get("capacity", {}).get("storage", "?")
            modes = ", ".join(claim["spec"]["accessModes"])
            return Finding("storage", "ok", f"PersistentVolumeClaim {self._claim} is bound: {size}, {modes}")
        wanted = claim or next((i for i in self._shared if i["kind"] == "PersistentVolumeClaim"), None)
        name = (wanted or {}).get("spec", {}).get("storageClassName")
        classes = self._api.get("/apis/storage.k8s.io/v1/storageclasses")["items"]
        chosen = next(
            (c for c in classes if (c["metadata"]["name"] == name if name else _is_default(c))), None
        )
        if chosen is None:
            what = f"StorageClass {name} does not exist" if name else "no StorageClass is the default"
            there = ", ".join(c["metadata"]["name"] for c in classes) or "none"
            todo = f"set storageClassName in the PersistentVolumeClaim; there are: {there}"
            return Finding("storage", "fail", what, todo)
        mode = chosen.get("volumeBindingMode", "Immediate")
        waits = " (bound by the first Pod)" if mode == "WaitForFirstConsumer" else ""
        state = "is not bound yet" if claim else "does not exist yet; the first run creates it"
        name = chosen["metadata"]["name"]
        found = f"PersistentVolumeClaim {self._claim} {state}; StorageClass {name}, {mode}{waits}"
        return Finding("storage", "ok", found)

    def _images(self) -> Finding:
        nodes = self._api.get("/api/v1/nodes")["items"]
        images = [image for node in nodes for image in node["status"].get("images") or ()]
        # names is null for an image whose tag has moved to another
        names = {name for image in images for name in image.get("names") or ()}
        if any(name in names for name in _spellings(self._image)):
            return Finding("image", "ok", f"{self._image} is on a node")
        if not _has_registry(self._image):
            why = "localhost/ is not a registry"
            if not self._image.startswith("localhost/"):
                why = f"it would be looked for as docker.io/library/{self._image}"
            return Finding(
                "image", "fail", f"{self._image} is on no node, and {why}",
                "make image, then load it (kind load docker-image …), or name one in a registry with --image",
            )  # fmt: skip
        return Finding(
            "image", "warn", f"{self._image} is on no node; it will be pulled", "check that it was pushed"
        )

    def _room(self) -> Finding:
        free = [_cpu_and_memory(left) for left in free_room(self._api, schedulable_nodes(self._api)).values()]
        asked = [_cpu_and_memory(asked_by(job)) for job in self._jobs.values()]
        cpu, memory = max(a[0] for a in asked), max(a[1] for a in asked)
        best = max(free, default=(0.0, 0.0))
        found = (
            f"requested: {cpu:g} CPU, {mebibytes(memory)}; most free: {best[0]:g} CPU, {mebibytes(best[1])}"
        )
        if any(c >= cpu and m >= memory for c, m in free):
            return Finding("room", "ok", found)
        return Finding(
            "room", "fail", found, "request less with --set train.cpu=… --set train.memory=…, or free some"
        )

    def _clock(self) -> Finding:
        with self._api.open("/version", {}) as response:
            date = response.headers.get("Date")
        if not date:
            return Finding("clock", "warn", "the API server does not send its time")
        skew = time.time() - parsedate_to_datetime(date).timestamp()
        if abs(skew) > _SKEW_SECONDS:
            return Finding(
                "clock",
                "warn",
                f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the API server's",
                "set this machine's clock",
            )
        return Finding("clock", "ok", f"within {_SKEW_SECONDS:.0f} s of the API server's")

    def _find(self, path: str) -> Object | None:
        try:
            found: Object = self._api.get(path)
            return found
        except ApiError as error:
            if error.status == 404:
                return None
            raise


def _is_default(storage_class: Object) -> bool:
    annotations = storage_class["metadata"].get("annotations") or {}
    return annotations.get("storageclass.kubernetes.io/is-default-class") == "true"


def _cpu_and_memory(room: Room) -> tuple[float, float]:
    return room.get("cpu", 0.0), room.get("memory", 0.0)


def _spellings(image: str) -> list[str]:
    """The names under which a node may list an image; one without a registry is Docker Hub's."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return [image]
    return [image, f"docker.io/library/{image}", f"docker.io/{image}", f"localhost/{image}"]


def _has_registry(image: str) -> bool:
    """Whether a node can pull the image; Docker Hub's NAME/IMAGE counts.

    podman and buildah put `localhost/` without a port before the names of images in no registry.
    """
    first, slash, _ = image.partition("/")
    return bool(slash) and first != "localhost"

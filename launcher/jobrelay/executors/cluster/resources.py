"""Where objects are in the API: a kind's resource, and whether it is namespaced.

The kinds that the launcher itself creates are built in; for all others it asks the cluster.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from jobrelay.errors import BadInput
from jobrelay.executors.cluster.api import Api, ApiError, collection
from jobrelay.kube.objects import Object


@dataclass(frozen=True)
class Resource:
    """A resource such as networkpolicies, namespaced or not."""

    name: str
    namespaced: bool = True


_KNOWN: Final = {
    ("v1", "ConfigMap"): Resource("configmaps"),
    ("v1", "Namespace"): Resource("namespaces", namespaced=False),
    ("v1", "PersistentVolumeClaim"): Resource("persistentvolumeclaims"),
    ("v1", "Pod"): Resource("pods"),
    ("v1", "Service"): Resource("services"),
    ("v1", "ServiceAccount"): Resource("serviceaccounts"),
    ("batch/v1", "Job"): Resource("jobs"),
    ("networking.k8s.io/v1", "NetworkPolicy"): Resource("networkpolicies"),
}


def collection_of(item: Mapping[str, Any]) -> str:
    """The path for creating an object of a kind that the launcher itself creates."""
    return _collection(item, _KNOWN[item["apiVersion"], item["kind"]])


def path_of(item: Mapping[str, Any]) -> str:
    """The object's path: that of its collection, then its name."""
    return f"{collection_of(item)}/{quote(item['metadata']['name'])}"


class Resources:
    """The resources of all kinds, from the API's discovery. Thread-safe."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._discovered: dict[str, dict[str, Resource]] = {}

    def of(self, item: Mapping[str, Any]) -> Resource:
        """The resource of an object's kind. Raises BadInput for a kind that the cluster does not have."""
        version, kind = item["apiVersion"], item["kind"]
        if known := _KNOWN.get((version, kind)):
            return known
        with self._lock:
            if version not in self._discovered:
                self._discovered[version] = self._discover(version)
            found = self._discovered[version].get(kind)
        if found is None:
            raise BadInput(
                f"{kind} {item['metadata']['name']}: this cluster has no {kind} in {version}",
                "install what brings it (a CustomResourceDefinition), or take it out of the manifests",
            )
        return found

    def placed(self, item: Object, namespace: str) -> Object:
        """The object as it is sent: in `namespace` if it is namespaced and names none."""
        metadata = dict(item["metadata"])
        if not self.of(item).namespaced:
            metadata.pop("namespace", None)
        elif not metadata.get("namespace"):
            metadata["namespace"] = namespace
        return {**item, "metadata": metadata}

    def path_of(self, item: Mapping[str, Any]) -> str:
        """The path of an object of any kind."""
        return f"{_collection(item, self.of(item))}/{quote(item['metadata']['name'])}"

    def _discover(self, version: str) -> dict[str, Resource]:
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        try:
            answer = self._api.get(path)
        except ApiError as error:
            if error.status == 404:
                return {}
            raise
        return {
            str(entry.get("kind")): Resource(str(entry.get("name")), bool(entry.get("namespaced")))
            for entry in answer.get("resources") or ()
            if "/" not in str(entry.get("name"))  # pods/log, deployments/scale
        }


def _collection(item: Mapping[str, Any], resource: Resource) -> str:
    namespace = item["metadata"].get("namespace") if resource.namespaced else None
    return collection(item["apiVersion"], resource.name, namespace)

"""What all runs share, the volume among it: created or brought up to date before a run, never forced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jobrelay.errors import BadInput, Conflict
from jobrelay.executors.cluster.api import Api, ApiError
from jobrelay.executors.cluster.parallel import in_parallel
from jobrelay.executors.cluster.resources import Resources, collection_of
from jobrelay.hints import Command
from jobrelay.kube.objects import Object
from jobrelay.manifests import differing_paths

_POLICY: Final = "NetworkPolicy"


class SharedObjects:
    """Those of the manifests, in one namespace."""

    def __init__(self, api: Api, resources: Resources, namespace: str) -> None:
        self._api = api
        self._resources = resources
        self._namespace = namespace

    def share(self, shared: Sequence[Object]) -> None:
        """Create them; what is there already stays. Raises BadInput, Conflict."""
        rest = [item for item in shared if item["kind"] != "Namespace"]
        placed = [self._resources.placed(item, self._namespace) for item in rest]
        for item in shared:
            if item["kind"] == "Namespace" and self._is_absent(item):
                self._create_namespace(item)
        in_parallel(self._apply, placed)

    def _apply(self, item: Object) -> None:
        live: Object | None = None
        try:
            live = self._api.apply(self._resources.path_of(item), item)
        except ApiError as error:
            title = f"{item['kind']} {item['metadata']['name']}"
            if error.status == 409:
                raise Conflict(
                    f"{title} is managed by another program: {error.message}",
                    "let that program give up the field, or remove the field from the manifest",
                ) from error
            if error.status != 403 or self._is_absent(item):
                raise BadInput(f"{title} is refused: {error.message}", Command("doctor")) from error
            # shared objects that others made for us are as good as our own
        if item["kind"] == _POLICY and (live := live or self._if_visible(item)):
            check_policy(item, live)

    def _create_namespace(self, item: Object) -> None:
        try:
            self._api.create(collection_of(item), item)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise BadInput(
                    f"namespace {item['metadata']['name']} cannot be created: {error.message}"
                ) from error

    def _is_absent(self, item: Object) -> bool:
        try:
            return self._get(item) is None
        except ApiError as error:
            if error.status == 403:
                return False  # it may not be looked at; that it is missing would show soon enough
            raise

    def _if_visible(self, item: Object) -> Object | None:
        try:
            return self._get(item)
        except ApiError as error:
            if error.status == 403:
                return None
            raise

    def _get(self, item: Object) -> Object | None:
        try:
            live: Object = self._api.get(self._resources.path_of(item))
            return live
        except ApiError as error:
            if error.status == 404:
                return None
            raise


def check_policy(wanted: Object, live: Object) -> None:
    """Raise Conflict, naming every field, where the NetworkPolicy in the cluster is not the wanted one.

    Server-side apply changes only what a manifest says: a rule that somebody has added stays, and lets the
    stages speak to others. A user who may not apply policies takes them as they are.
    """
    differences = differing_paths(_canonical(wanted.get("spec") or {}), _canonical(live.get("spec") or {}))
    if differences:
        listed = "".join(f"\n    {difference}" for difference in differences)
        name = wanted["metadata"]["name"]
        raise Conflict(
            f"NetworkPolicy {name} in the cluster differs from the manifest:{listed}",
            "restore it (kubectl replace -f FILE, or delete it and run again); if the change is "
            "intended, make it in the manifests of -k too",
        )


def _canonical(spec: Object) -> Object:
    """With what a server adds to it, and without what means nothing."""
    rules = {
        direction: [_rule(rule, peers) for rule in spec.get(direction) or ()]
        for direction, peers in (("ingress", "from"), ("egress", "to"))
    }
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if rules["egress"] else [])]
    return {"podSelector": _selector(spec.get("podSelector")), "policyTypes": sorted(types), **rules}


def _rule(rule: Object, peers: str) -> Object:
    ports = [{"protocol": "TCP", **port} for port in rule.get("ports") or ()]
    selected = [
        {key: _selector(value) if key.endswith("Selector") else value for key, value in peer.items()}
        for peer in rule.get(peers) or ()
    ]
    return {**({"ports": ports} if ports else {}), **({peers: selected} if selected else {})}


def _selector(selector: Object | None) -> Object:
    return {key: value for key, value in (selector or {}).items() if value}

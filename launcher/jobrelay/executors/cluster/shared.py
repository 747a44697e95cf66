"""Objects that all runs share, including the volume: created or updated before a run, never forced."""

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
    """The shared objects of the manifests, in one namespace."""

    def __init__(self, api: Api, resources: Resources, namespace: str) -> None:
        self._api = api
        self._resources = resources
        self._namespace = namespace

    def share(self, shared: Sequence[Object]) -> None:
        """Create or update the objects. Raises BadInput, Conflict."""
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
            # shared objects that somebody else created serve as well
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
                return False  # the user may not read it; if it is missing, that will soon show
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
    """Raise Conflict, naming every field, if the cluster's NetworkPolicy differs from the wanted one.

    Server-side apply changes only the fields of a manifest: a rule that somebody added stays, and lets the
    stages reach others. For users who may not apply policies the launcher accepts those that exist.
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
    """The spec with the server's defaults, and without fields that mean nothing."""
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

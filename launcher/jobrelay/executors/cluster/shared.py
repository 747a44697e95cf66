"""What all runs share, the volume among it: created or brought up to date before a run, never forced."""

from __future__ import annotations

from collections.abc import Sequence

from jobrelay.errors import BadInput, Conflict
from jobrelay.executors.cluster import policies
from jobrelay.executors.cluster.api import Api, ApiError
from jobrelay.executors.cluster.parallel import in_parallel
from jobrelay.executors.cluster.resources import Resources, collection_of
from jobrelay.hints import Command
from jobrelay.kube.objects import Object


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
        if item["kind"] == policies.KIND and (live := live or self._if_visible(item)):
            policies.check_policy(item, live)

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

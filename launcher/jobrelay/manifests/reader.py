"""The Pod that reads and writes the volume for the launcher."""

from __future__ import annotations

import copy
import secrets
from dataclasses import dataclass
from typing import Any, Final, cast

from jobrelay.kube.labels import RUNNER_FILE
from jobrelay.kube.objects import Job, Object, Pod
from jobrelay.kube.read import is_built_in, main_container
from jobrelay.manifests.kustomize import documents
from jobrelay.manifests.runner import runner_config_map
from jobrelay.resources import K8S

READER: Final = K8S / "reader" / "pod.yaml"
_FOLDER: Final = "/jobrelay/runner"
#: In an image of any kind, Python may have either name.
_ANY_PYTHON: Final = 'for p in python3 python; do command -v $p >/dev/null && exec $p "$@"; done; exit 127'


@dataclass(frozen=True)
class Reader:
    """In what the volume is read: in the image of a stage, as the stage's user.

    like: a Job of that kind; None: a built-in program's. Its image, if it is one of any kind, gets the runner
    from a ConfigMap.
    """

    image: str
    like: Job | None = None

    @property
    def needs_runner(self) -> bool:
        """Whether the image may be one without JobRelay."""
        return self.like is not None and not is_built_in(main_container(self.like))

    def program(self) -> list[str]:
        """The command, before the verb, that answers requests."""
        if self.needs_runner:
            return ["sh", "-c", _ANY_PYTHON, "jobrelay", f"{_FOLDER}/{RUNNER_FILE}", "volume"]
        return ["python", "-m", "jobrelay_runner", "volume"]

    def without_python(self, folder: str) -> list[str]:
        """The command that sends a folder of the volume as a tar, in an image that has no Python."""
        return ["sh", "-c", 'cd "$JOBRELAY_VOLUME/$1" && tar cf - .', "jobrelay", folder]

    def shared(self, namespace: str) -> list[Object]:
        """Objects that the Pod needs."""
        return [runner_config_map(namespace)] if self.needs_runner else []

    def pod(self, namespace: str, claim: str, node: str | None) -> Pod:
        """The Pod. node: where it must run."""
        pod = cast(Pod, next(documents(READER)))
        pod["metadata"]["name"] = f"{pod['metadata']['name']}-{secrets.token_hex(3)}"
        pod["metadata"]["namespace"] = namespace
        spec: Any = pod["spec"]
        spec["containers"][0]["image"] = self.image
        spec["volumes"][0]["persistentVolumeClaim"]["claimName"] = claim
        if self.needs_runner:
            self._as_the_stage(spec, namespace)
        if node:
            term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
            terms = {"nodeSelectorTerms": [term]}
            spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
        return pod

    def _as_the_stage(self, spec: Any, namespace: str) -> None:
        """Give the Pod the runner, and the user whom the stage's files belong to."""
        assert self.like
        name = runner_config_map(namespace)["metadata"]["name"]
        spec["volumes"].append({"name": "runner", "configMap": {"name": name}})
        container = spec["containers"][0]
        container["volumeMounts"].append({"name": "runner", "mountPath": _FOLDER, "readOnly": True})
        stage: Any = self.like["spec"]["template"]["spec"]
        spec["securityContext"] = copy.deepcopy(stage.get("securityContext") or {})
        own = main_container(self.like)
        container["securityContext"] = copy.deepcopy(cast(Any, own).get("securityContext") or {})

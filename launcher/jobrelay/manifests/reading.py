"""Load a manifest folder, check its objects, and sort them into Jobs, configuration and shared objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from jobrelay.errors import BadInput
from jobrelay.kube.labels import CONFIG_FILE, LABEL_COMPONENT, is_config_map
from jobrelay.kube.objects import Job, Object
from jobrelay.kube.read import claim_name, containers, title
from jobrelay.manifests.adapting import adapted
from jobrelay.manifests.kustomize import read_folder
from jobrelay.manifests.order import in_order
from jobrelay.manifests.shapes import ConfigMapShape, JobShape, check_shape
from jobrelay.resources import K8S
from jobrelay_runner.stages import Stage, check_stage
from jobrelay_train.config.yamlio import YamlError, load_documents

BASE: Final = K8S / "base"


_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"


#: The grammar of image names (distribution/reference), shortened to what Kubernetes accepts.
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


#: The launcher must not grant itself rights: an administrator applies these objects.
_GRANTS = "rbac.authorization.k8s.io/"


#: Workloads that stand beside Jobs in people's folders: `kubectl apply` starts them, a run does not.
_SERVERS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "CronJob")


@dataclass(frozen=True)
class Manifests:
    """The manifests of a folder: shared objects, one Job per stage, and the configuration."""

    source: str
    namespace: str
    shared: tuple[Object, ...]
    jobs: Mapping[Stage, Job]
    config: Mapping[str, Any]
    placed: bool = True  # False: they name no namespace, and go into the context's
    notes: tuple[str, ...] = ()  # what the launcher changes in the Jobs

    @property
    def claim(self) -> str | None:
        """The claim over which the stages hand on their work; None if no Job mounts one."""
        return next((name for job in self.jobs.values() if (name := claim_name(job))), None)


def load(folder: Path) -> Manifests:
    """Load the manifests of a kustomization folder. Raises BadInput that names the file or object."""
    objects = list(read_folder(folder, BASE))
    jobs: dict[Stage, Job] = {}
    shared: list[Object] = []
    config: Mapping[str, Any] = {}
    notes: list[str] = []
    for item in objects:
        if item["kind"] == "ConfigMap" and is_config_map(item["metadata"]["name"]):
            config = _config_of(item, folder)
        elif item["kind"] == "Job":
            stage = _stage_of(item, folder)
            if stage in jobs:
                raise BadInput(f"{folder} has two Jobs for {stage}: {title(jobs[stage])} and {title(item)}")
            jobs[stage] = cast(Job, item)  # _check_job validates the shape
        elif item["kind"] in _SERVERS:
            notes.append(f"{title(item)} is left out: it never ends and is not a stage")
        elif not item["apiVersion"].startswith(_GRANTS):
            shared.append(item)
    if not jobs:
        raise BadInput(f"{folder} has no Job", f"compare {BASE}")
    for job in jobs.values():
        notes += adapted(job)
        _check_job(job, folder)
    namespaces = {job["metadata"].get("namespace") for job in jobs.values()}
    if len(namespaces) > 1:
        raise BadInput(
            f"the Jobs in {folder} are in several namespaces: "
            f"{', '.join(sorted(namespace or 'none' for namespace in namespaces))}"
        )
    shared.sort(key=lambda item: item["kind"] != "Namespace")
    namespace = namespaces.pop()
    jobs = in_order(jobs, folder)
    return Manifests(
        str(folder), namespace or "default", tuple(shared), jobs, config, namespace is not None, tuple(notes)
    )


def _stage_of(job: Object, folder: Path) -> Stage:
    """The stage of a Job: its label, else its name. Raises BadInput."""
    metadata = job["metadata"]
    name = metadata.get("labels", {}).get(LABEL_COMPONENT) or metadata["name"]
    try:
        return check_stage(str(name))
    except ValueError as error:
        raise BadInput(
            f"{title(job)} in {folder}: {error}", f"name its stage in the label {LABEL_COMPONENT}"
        ) from error


def check_image(image: str) -> str:
    """Return `image` if it is a valid image name. Raises BadInput."""
    if len(image) > 512 or not _IMAGE.fullmatch(image):
        raise BadInput(
            f"image {image!r} cannot be an image's name",
            "expected [REGISTRY/]NAME[:TAG][@sha256:…], in lower case",
        )
    return image


def _check_job(job: Job, folder: Path) -> None:
    where = f"{title(job)} in {folder}"
    check_shape(job, JobShape, where)
    try:
        spec = job["spec"]
        pod = spec["template"]["spec"]
        images = [container["image"] for container in containers(pod)]
        names = [container["name"] for container in containers(pod)]
    except KeyError as error:
        raise BadInput(
            f"{where}: {error} is missing in its spec", "compare k8s/base/job-train.yaml"
        ) from error
    if spec.get("parallelism", 1) != 1 or spec.get("completions", 1) != 1:
        raise BadInput(
            f"{where}: parallelism and completions are for the launcher to set",
            "take them out; --set train.strategy=ddp --set train.nodes=… makes a Job of several Pods",
        )
    if not pod["containers"] or len(set(names)) != len(names):
        raise BadInput(f"{where}: it needs containers, with names of their own")
    for image in images:
        check_image(image)


def _config_of(item: Object, folder: Path) -> Mapping[str, Any]:
    check_shape(item, ConfigMapShape, f"{title(item)} in {folder}")
    try:
        text = item.get("data", {}).get(CONFIG_FILE, "")
        documents = load_documents(text, f"{CONFIG_FILE} in {folder}", plain_numbers=True)
    except YamlError as error:
        raise BadInput(str(error)) from error
    tree = documents[0] if documents else {}
    if not isinstance(tree, dict):
        raise BadInput(f"{CONFIG_FILE} in {folder}: a mapping of keys is expected")
    return tree

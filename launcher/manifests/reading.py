"""Read manifests and check them.

A folder of plain YAML (k8s/base) is read here, with no tool; an overlay is rendered by
`kubectl kustomize`, whose business it is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobs.contract.config import STAGES, Stage
from jobs.contract.safe_read import read_named
from jobs.contract.yamlio import MAX_BYTES, YamlError, load_documents, read_documents
from launcher.errors import BadInput
from launcher.manifests.labels import (
    CONFIG_FILE,
    CONFIG_MAP,
    LABEL_COMPONENT,
    Object,
    claim_name,
    containers,
    title,
)
from launcher.manifests.shapes import check_shape, json_only

REPOSITORY: Final = Path(__file__).resolve().parents[2]


BASE: Final = REPOSITORY / "k8s" / "base"


_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"


#: The grammar of image names (distribution/reference), shortened to what Kubernetes accepts.
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


#: What this module looks into (launcher.shapes); what is left out may be anything.
_CONTAINER: Final[Object] = {
    "name": str, "image": str, "env": [{"name": str}], "resources": {"requests": {}, "limits": {}},
}  # fmt: skip


_VOLUME: Final[Object] = {
    "name": str, "persistentVolumeClaim": {"claimName": str}, "configMap": {"name": str}, "emptyDir": {},
}  # fmt: skip


_AFFINITY: Final[Object] = {
    "podAffinity": {}, "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{}]},
}  # fmt: skip


_POD: Final[Object] = {
    "containers": [_CONTAINER], "initContainers": [_CONTAINER], "volumes": [_VOLUME], "affinity": _AFFINITY,
}  # fmt: skip


_OBJECT: Final[Object] = {"metadata": {"labels": {}, "annotations": {}, "namespace": str}}


_JOB: Final[Object] = {"spec": {"backoffLimit": int, "template": {"metadata": {"labels": {}}, "spec": _POD}}}


_KUSTOMIZATION: Final[Object] = {
    "namespace": str, "resources": [str], "configMapGenerator": [{"name": str, "files": [str]}],
}  # fmt: skip


#: What the launcher may do is not for the launcher to say: an administrator applies these.
_GRANTS = "rbac.authorization.k8s.io/"


_CLUSTER_WIDE = ("PersistentVolume", "StorageClass", "PriorityClass", "RuntimeClass")


@dataclass(frozen=True)
class Manifests:
    """What a folder of manifests holds: what all runs share, one Job a stage, the configuration."""

    source: str
    namespace: str
    shared: tuple[Object, ...]
    jobs: Mapping[Stage, Object]
    config: Mapping[str, Any]


def load(folder: Path) -> Manifests:
    """Manifests of a kustomization folder. Raises BadInput naming the file or object."""
    objects = list(_read(folder))
    jobs: dict[Stage, Object] = {}
    shared: list[Object] = []
    config: Mapping[str, Any] = {}
    for item in objects:
        stage = item.get("metadata", {}).get("labels", {}).get(LABEL_COMPONENT)
        if item["kind"] == "ConfigMap" and item["metadata"]["name"].startswith(CONFIG_MAP):
            config = _config_of(item, folder)
        elif item["kind"] == "Job":
            if stage not in STAGES:
                raise BadInput(
                    f"{title(item)} in {folder}: its label {LABEL_COMPONENT} is {stage!r}",
                    f"label it with the stage that it is: {', '.join(STAGES)}",
                )
            if stage in jobs:
                raise BadInput(f"{folder} has two Jobs for {stage}: {title(jobs[stage])} and {title(item)}")
            jobs[stage] = item
        elif not item["apiVersion"].startswith(_GRANTS):
            shared.append(item)
    missing = [stage for stage in STAGES if stage not in jobs]
    if missing:
        raise BadInput(f"{folder} has no Job for {', '.join(missing)}", f"compare {BASE}")
    for job in jobs.values():
        _check_job(job, folder)
    namespaces = {job["metadata"].get("namespace", "default") for job in jobs.values()}
    if len(namespaces) > 1:
        raise BadInput(f"the Jobs in {folder} are in several namespaces: {', '.join(sorted(namespaces))}")
    shared.sort(key=lambda item: item["kind"] != "Namespace")
    return Manifests(str(folder), namespaces.pop(), tuple(shared), jobs, config)


def check_image(image: str) -> str:
    """`image` itself if it can be an image's name. Raises BadInput."""
    if len(image) > 512 or not _IMAGE.fullmatch(image):
        raise BadInput(
            f"image {image!r} cannot be an image's name",
            "expected [REGISTRY/]NAME[:TAG][@sha256:…], in lower case",
        )
    return image


def _read(folder: Path) -> Iterator[Object]:
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder", f"name a folder with a kustomization.yaml, such as {BASE}")
    path = folder / "kustomization.yaml"
    kustomization = next(documents(path, checked=False), None)
    if not isinstance(kustomization, dict):
        raise BadInput(f"{path} is empty", f"compare {BASE / 'kustomization.yaml'}")
    check_shape(kustomization, _KUSTOMIZATION, str(path))
    plain = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator"}
    resources = kustomization.get("resources") or []
    if set(kustomization) - plain or any((folder / name).is_dir() for name in resources):
        yield from _kustomize(folder)
        return
    for name in resources:
        for item in documents(folder / name):
            yield _placed(item, kustomization.get("namespace"))
    for generated in kustomization.get("configMapGenerator") or ():
        files = {}
        for name in generated.get("files") or ():
            try:
                files[name] = read_named(folder / name, MAX_BYTES).decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(f"{folder / name} cannot be read: {error}") from error
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": generated.get("name", "")},
            "data": files,
        }


def documents(path: Path, checked: bool = True) -> Iterator[Object]:
    """The objects in a file. Raises BadInput."""
    try:
        documents = read_documents(path)
    except YamlError as error:
        raise BadInput(str(error)) from error
    yield from (_check_object(document, str(path)) if checked else document for document in documents)


def _kustomize(folder: Path) -> Iterator[Object]:
    tool = shutil.which("kubectl")
    if not tool:
        raise BadInput(
            f"{folder} is an overlay, and kubectl, which renders it, is not on the PATH",
            f"install kubectl, or use -k {BASE}",
        )
    done = subprocess.run([tool, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInput(f"kubectl kustomize {folder} failed: {done.stderr.strip()}")
    try:
        documents = load_documents(done.stdout, f"kubectl kustomize {folder}")
    except YamlError as error:
        raise BadInput(str(error)) from error
    yield from (_check_object(document, str(folder)) for document in documents)


def _check_object(item: Any, source: str) -> Object:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict) or not all(
        isinstance(part, str) for part in (item.get("apiVersion"), item.get("kind"), metadata.get("name"))
    ):
        raise BadInput(f"{source}: not a Kubernetes object (apiVersion, kind and metadata.name are needed)")
    checked: Object = json_only(item, f"{source}: {title(item)}: ")
    check_shape(checked, _OBJECT, f"{source}: {title(item)}")
    return checked


def _placed(item: Object, namespace: str | None) -> Object:
    """The object where kustomize would put it."""
    if not namespace or item["kind"] in _CLUSTER_WIDE or item["kind"].startswith("Cluster"):
        return item
    key = "name" if item["kind"] == "Namespace" else "namespace"
    return {**item, "metadata": {**item["metadata"], key: namespace}}


def _check_job(job: Object, folder: Path) -> None:
    where = f"{title(job)} in {folder}"
    check_shape(job, _JOB, where)
    try:
        spec = job["spec"]
        pod = spec["template"]["spec"]
        images = [container["image"] for container in containers(pod)]
        names = [container["name"] for container in containers(pod)]
    except KeyError as error:
        raise BadInput(
            f"{where}: {error} is missing in its spec", "compare k8s/base/job-train.yaml"
        ) from error
    if pod.get("restartPolicy") != "Never":
        raise BadInput(
            f"{where}: restartPolicy is {pod.get('restartPolicy', 'not given')}",
            "set it to Never: with OnFailure a failed Pod vanishes, and its log with it",
        )
    if spec.get("ttlSecondsAfterFinished") is not None:
        raise BadInput(
            f"{where}: ttlSecondsAfterFinished would remove it before its log and results are collected",
            "take it out; the command delete removes the Jobs of a run",
        )
    if spec.get("parallelism", 1) != 1 or spec.get("completions", 1) != 1:
        raise BadInput(
            f"{where}: parallelism and completions are for the launcher to set",
            "take them out; --set train.strategy=ddp --set train.nodes=… makes a Job of several Pods",
        )
    if not pod["containers"] or len(set(names)) != len(names):
        raise BadInput(f"{where}: it needs containers, with names of their own")
    for image in images:
        check_image(image)
    claim_name(job)


def _config_of(item: Object, folder: Path) -> Mapping[str, Any]:
    check_shape(item, {"data": {CONFIG_FILE: str}}, f"{title(item)} in {folder}")
    try:
        documents = load_documents(item.get("data", {}).get(CONFIG_FILE, ""), f"{CONFIG_FILE} in {folder}")
    except YamlError as error:
        raise BadInput(str(error)) from error
    tree = documents[0] if documents else {}
    if not isinstance(tree, dict):
        raise BadInput(f"{CONFIG_FILE} in {folder}: a mapping of keys is expected")
    return tree

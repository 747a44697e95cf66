"""Kubernetes manifests: read them, check them, render them for one run. Dicts in, dicts out.

A folder of plain YAML (k8s/base) is read here, with no tool; an overlay is rendered by
`kubectl kustomize`, whose business it is.
"""

from __future__ import annotations

import copy
import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from jobs.contract import exit_codes
from jobs.contract.config import STAGES, RunConfig, Stage, digest
from jobs.contract.volume import ENV_RUN, check_name
from jobs.contract.yamlio import YamlError, load_documents, read_documents
from launcher.errors import BadInput
from launcher.shapes import check_shape, json_only

Object = dict[str, Any]

LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_RUN: Final = "jobrelay.dev/run"
#: Equal for runs of the same manifests, image and configuration.
LABEL_PLAN: Final = "jobrelay.dev/plan"
ANNOTATION_HASH: Final = "jobrelay.dev/spec-hash"
ANNOTATION_CONFIG: Final = "jobrelay.dev/config"
ANNOTATION_VERDICT: Final = "jobrelay.dev/verdict"

GATE: Final = "gate"
CONFIG_MAP: Final = "jobrelay-config"
CONFIG_FILE: Final = "config.yaml"

_REPOSITORY = Path(__file__).resolve().parent.parent
BASE: Final = _REPOSITORY / "k8s" / "base"
READER: Final = _REPOSITORY / "k8s" / "reader" / "pod.yaml"

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
#: The grammar of image names (distribution/reference), shortened to what Kubernetes accepts.
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


@dataclass(frozen=True)
class Manifests:
    """What a folder of manifests holds: what all runs share, one Job a stage, the configuration."""

    source: str
    namespace: str
    shared: tuple[Object, ...]
    jobs: Mapping[Stage, Object]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """One run, rendered: everything that will be sent, before anything is."""

    run: str
    namespace: str
    hash: str
    shared: tuple[Object, ...]
    config_map: Object
    jobs: Mapping[Stage, Object]

    def objects(self) -> list[Object]:
        return [*self.shared, self.config_map, *self.jobs.values()]


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
                    f"{_title(item)} in {folder}: its label {LABEL_COMPONENT} is {stage!r}",
                    f"label it with the stage that it is: {', '.join(STAGES)}",
                )
            if stage in jobs:
                raise BadInput(f"{folder} has two Jobs for {stage}: {_title(jobs[stage])} and {_title(item)}")
            jobs[stage] = item
        else:
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


def new_run_id(now: datetime | None = None) -> str:
    """An id nobody has: the second (UTC), and four random characters."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    tail = "".join(secrets.choice(alphabet) for _ in range(4))
    return f"{now or datetime.now(UTC):%Y%m%d-%H%M%S}-{tail}"


def render(
    manifests: Manifests,
    config: RunConfig,
    run: str,
    *,
    namespace: str | None = None,
    image: str | None = None,
    timeout_seconds: int | None = None,
) -> Plan:
    """The manifests made ready for one run. Sends nothing. Raises BadInput.

    run: a DNS-1123 label of at most 40 characters. image: for every container that has the
    stages' image. timeout_seconds: of one attempt of each stage whose configuration has none.
    """
    namespace = namespace or manifests.namespace
    try:
        check_name(run, "run id")
        check_name(namespace, "namespace", longest=63)
    except ValueError as error:
        raise BadInput(str(error), "choose another one") from error
    text = json.dumps(config.result_config(), indent=2)  # JSON is YAML, and canonical
    config_name = f"{run}-config-{digest(text)[:8]}"
    jobs: dict[Stage, Object] = {}
    for stage in STAGES:
        job = copy.deepcopy(manifests.jobs[stage])
        _set_image(job, image)
        _set_placement(job, stage, config, timeout_seconds)
        _set_config_map(job, CONFIG_MAP)  # kustomize has put a hash of the file behind it
        _stamp(job, stage, config)
        jobs[stage] = job
    plan_hash = digest([jobs[stage]["metadata"]["annotations"][ANNOTATION_HASH] for stage in STAGES])[:16]
    for stage, job in jobs.items():
        _set_run(job, stage, run, namespace, plan_hash, config_name)
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": config_name, "namespace": namespace, "labels": _labels(run)},
        "data": {CONFIG_FILE: text + "\n"},
        "immutable": True,
    }
    return Plan(run, namespace, plan_hash, shared_in(manifests, namespace), config_map, jobs)


def shared_in(manifests: Manifests, namespace: str | None = None) -> tuple[Object, ...]:
    """What all runs share, in a namespace (None: the manifests' own)."""
    return tuple(_in_namespace(item, namespace or manifests.namespace) for item in manifests.shared)


def for_server(job: Object, minor: int) -> Object:
    """The Job with what a server of Kubernetes 1.`minor` adds to its care for retries.

    Not in the YAML: `kubectl` checks fields against the server, and 1.20 does not know these.
    """
    job = copy.deepcopy(job)
    if minor >= 26:
        never_again = {
            "containerName": main_container(job)["name"],
            "operator": "In",
            "values": sorted(exit_codes.FINAL),
        }
        job["spec"]["podFailurePolicy"] = {
            "rules": [
                {"action": "FailJob", "onExitCodes": never_again},
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        }
    if minor >= 29:
        job["spec"]["podReplacementPolicy"] = "Failed"  # never two writers at once
    return job


def without_gate(job: Object) -> Object:
    """The Job without the initContainer that waits for the stage before it.

    The launcher starts a stage only when the one before has succeeded, so it need not pay for
    a container that finds the gate open.
    """
    job = copy.deepcopy(job)
    pod = job["spec"]["template"]["spec"]
    pod["initContainers"] = [c for c in pod.get("initContainers") or () if c["name"] != GATE]
    if not pod["initContainers"]:
        del pod["initContainers"]
    return job


def main_container(job: Object) -> Object:
    """The stage's own container: the one named like it, else the first."""
    stage = job["metadata"]["labels"].get(LABEL_COMPONENT)
    containers: list[Object] = job["spec"]["template"]["spec"]["containers"]
    return next((c for c in containers if c["name"] == stage), containers[0])


def claim_name(job: Object) -> str:
    """The PersistentVolumeClaim that a Job mounts. Raises BadInput if it mounts none."""
    for volume in job["spec"]["template"]["spec"].get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim", {}).get("claimName"):
            return str(claim)
    raise BadInput(
        f"{_title(job)} mounts no PersistentVolumeClaim",
        "stages hand their work on over one volume: add it to spec.template.spec.volumes",
    )


def differing_keys(wanted: Object, live: Object) -> list[str]:
    """Where a live Job is not what is wanted: configuration keys and paths in its spec.

    Fields that only the server has set do not count.
    """
    before, after = (
        _flat(json.loads(job["metadata"].get("annotations", {}).get(ANNOTATION_CONFIG, "{}")))
        for job in (live, wanted)
    )
    keys = [
        f"{key}: {before.get(key)} there, {after.get(key)} wanted"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    there, want = _flat(live["spec"], "spec"), _flat(wanted["spec"], "spec")
    for path, value in want.items():
        is_name = CONFIG_MAP in path or str(value).startswith(
            f"{wanted['metadata']['labels'][LABEL_RUN]}-config-"
        )
        if there.get(path) != value and not is_name:
            keys.append(f"{path}: {there.get(path)} there, {value} wanted")
    return keys


def to_yaml(objects: Sequence[Object]) -> str:
    """The objects as a stream of YAML documents, for people and for kubectl."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, and no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def reader_pod(plan_namespace: str, claim: str, image: str, node: str | None) -> Object:
    """The Pod that reads and writes the volume for the launcher; `node`: where it must run."""
    pod: Object = next(_documents(READER))
    suffix = secrets.token_hex(3)
    pod["metadata"]["name"] = f"{pod['metadata']['name']}-{suffix}"
    pod["metadata"]["namespace"] = plan_namespace
    pod["spec"]["containers"][0]["image"] = image
    pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = claim
    if node:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        pod["spec"]["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        }
    return pod


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
    kustomization = next(_documents(path, checked=False), None)
    if not isinstance(kustomization, dict):
        raise BadInput(f"{path} is empty", f"compare {BASE / 'kustomization.yaml'}")
    check_shape(kustomization, _KUSTOMIZATION, str(path))
    plain = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator"}
    resources = kustomization.get("resources") or []
    if set(kustomization) - plain or any((folder / name).is_dir() for name in resources):
        yield from _kustomize(folder)
        return
    for name in resources:
        for item in _documents(folder / name):
            yield _placed(item, kustomization.get("namespace"))
    for generated in kustomization.get("configMapGenerator") or ():
        files = {}
        for name in generated.get("files") or ():
            try:
                files[name] = (folder / name).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(f"{folder / name} cannot be read: {error}") from error
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": generated.get("name", "")},
            "data": files,
        }


def _documents(path: Path, checked: bool = True) -> Iterator[Object]:
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
    checked: Object = json_only(item, f"{source}: {_title(item)}: ")
    check_shape(checked, _OBJECT, f"{source}: {_title(item)}")
    return checked


#: What this module looks into (launcher.shapes); what is left out may be anything.
_CONTAINER: Final[Object] = {
    "name": str, "image": str, "env": [{"name": str}], "resources": {"requests": {}, "limits": {}},
}  # fmt: skip
_VOLUME: Final[Object] = {
    "name": str, "persistentVolumeClaim": {"claimName": str}, "configMap": {"name": str}, "emptyDir": {},
}  # fmt: skip
_POD: Final[Object] = {"containers": [_CONTAINER], "initContainers": [_CONTAINER], "volumes": [_VOLUME]}
_OBJECT: Final[Object] = {"metadata": {"labels": {}, "annotations": {}, "namespace": str}}
_JOB: Final[Object] = {"spec": {"template": {"metadata": {"labels": {}}, "spec": _POD}}}
_KUSTOMIZATION: Final[Object] = {
    "namespace": str, "resources": [str], "configMapGenerator": [{"name": str, "files": [str]}],
}  # fmt: skip


_CLUSTER_WIDE = ("PersistentVolume", "StorageClass", "PriorityClass", "RuntimeClass")


def _placed(item: Object, namespace: str | None) -> Object:
    """The object where kustomize would put it."""
    if not namespace or item["kind"] in _CLUSTER_WIDE or item["kind"].startswith("Cluster"):
        return item
    key = "name" if item["kind"] == "Namespace" else "namespace"
    return {**item, "metadata": {**item["metadata"], key: namespace}}


def _check_job(job: Object, folder: Path) -> None:
    where = f"{_title(job)} in {folder}"
    check_shape(job, _JOB, where)
    try:
        spec = job["spec"]
        pod = spec["template"]["spec"]
        images = [container["image"] for container in _containers(pod)]
        names = [container["name"] for container in _containers(pod)]
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
            "take it out; `python launcher delete RUN` removes a run's Jobs",
        )
    if spec.get("parallelism", 1) != 1 or spec.get("completions", 1) != 1:
        raise BadInput(f"{where}: parallelism and completions other than 1 are not supported yet")
    if not pod["containers"] or len(set(names)) != len(names):
        raise BadInput(f"{where}: it needs containers, with names of their own")
    for image in images:
        check_image(image)
    claim_name(job)


def _config_of(item: Object, folder: Path) -> Mapping[str, Any]:
    check_shape(item, {"data": {CONFIG_FILE: str}}, f"{_title(item)} in {folder}")
    try:
        documents = load_documents(item.get("data", {}).get(CONFIG_FILE, ""), f"{CONFIG_FILE} in {folder}")
    except YamlError as error:
        raise BadInput(str(error)) from error
    tree = documents[0] if documents else {}
    if not isinstance(tree, dict):
        raise BadInput(f"{CONFIG_FILE} in {folder}: a mapping of keys is expected")
    return tree


def _set_image(job: Object, image: str | None) -> None:
    if not image:
        return
    check_image(image)
    pod = job["spec"]["template"]["spec"]
    replaced = main_container(job)["image"]
    for container in _containers(pod):
        if container["image"] == replaced:
            container["image"] = image


def _set_placement(job: Object, stage: Stage, config: RunConfig, timeout_seconds: int | None) -> None:
    placement = config.placement(stage)
    pod = job["spec"]["template"]["spec"]
    resources = main_container(job).setdefault("resources", {})
    if placement.cpu:
        resources.setdefault("requests", {})["cpu"] = placement.cpu
    if placement.memory:
        resources.setdefault("requests", {})["memory"] = placement.memory
        resources.setdefault("limits", {})["memory"] = placement.memory
    deadline = placement.timeout_seconds or timeout_seconds
    if deadline:
        pod["activeDeadlineSeconds"] = deadline
    if placement.backoff_limit is not None:
        job["spec"]["backoffLimit"] = placement.backoff_limit


def _set_config_map(job: Object, name: str) -> None:
    for volume in job["spec"]["template"]["spec"].get("volumes") or ():
        if volume.get("configMap", {}).get("name", "").startswith(CONFIG_MAP):
            volume["configMap"]["name"] = name


def _stamp(job: Object, stage: Stage, config: RunConfig) -> None:
    """The hash of all that decides what this Job does, whatever the run is called."""
    own = config.stage(stage)
    annotations = job["metadata"].setdefault("annotations", {})
    annotations[ANNOTATION_HASH] = digest({"spec": job["spec"], "config": own})
    annotations[ANNOTATION_CONFIG] = json.dumps(own, sort_keys=True)


def _set_run(job: Object, stage: Stage, run: str, namespace: str, plan_hash: str, config_name: str) -> None:
    pod = job["spec"]["template"]["spec"]
    job["metadata"].update(name=f"{run}-{stage}", namespace=namespace)
    template = job["spec"]["template"].setdefault("metadata", {})
    for metadata in (job["metadata"], template):
        metadata["labels"] = {**metadata.get("labels", {}), **_labels(run), LABEL_COMPONENT: stage}
    job["metadata"]["labels"][LABEL_PLAN] = plan_hash
    for container in _containers(pod):
        for variable in container.get("env") or ():
            if variable.get("name") == ENV_RUN:
                variable["value"] = run
    _set_config_map(job, config_name)


def _labels(run: str) -> dict[str, str]:
    return {LABEL_NAME: "jobrelay", LABEL_PART_OF: "jobrelay", LABEL_MANAGED_BY: "jobrelay", LABEL_RUN: run}


def _in_namespace(item: Object, namespace: str) -> Object:
    item = copy.deepcopy(item)
    if item["kind"] == "Namespace":
        item["metadata"]["name"] = namespace
    elif item["metadata"].get("namespace"):
        item["metadata"]["namespace"] = namespace
    return item


def _containers(pod: Object) -> Iterator[Object]:
    yield from pod.get("initContainers") or ()
    yield from pod["containers"]


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": [1]}} → {"a.b[0]": 1}; a list of named things is keyed by their names."""
    if isinstance(tree, dict):
        pairs = [(f"{prefix}.{key}" if prefix else key, value) for key, value in tree.items()]
    elif isinstance(tree, list):
        pairs = []
        for index, value in enumerate(tree):
            key = value.get("name", index) if isinstance(value, dict) else index
            pairs.append((f"{prefix}[{key}]", value))
    else:
        return {prefix: tree}
    return {path: leaf for name, value in pairs for path, leaf in _flat(value, name).items()}


def _title(item: Object) -> str:
    return f"{item['kind']} {item['metadata']['name']}"

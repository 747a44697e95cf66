"""Render manifests for one run: dicts in, dicts out. Sends nothing."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import yaml

from jobrelay.errors import BadInput
from jobrelay.kube.labels import (
    ANNOTATION_CONFIG,
    ANNOTATION_DISRUPTIONS,
    ANNOTATION_HASH,
    ANNOTATION_STAGES,
    ANNOTATION_WORK,
    CONFIG_MAP,
    GATE,
    LABEL_COMPONENT,
    LABEL_PLAN,
    is_config_map,
    run_labels,
)
from jobrelay.kube.objects import AnyObject, Job, Object
from jobrelay.kube.read import containers, is_supervised, main_container, pods_of
from jobrelay.manifests import nodes
from jobrelay.manifests.pipeline import PipelineConfig
from jobrelay.manifests.plan import Plan
from jobrelay.manifests.reading import Manifests, check_image
from jobrelay.manifests.scopes import is_cluster_wide
from jobrelay_runner import exit_codes
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import ENV_RUN, check_name
from jobrelay_train.config.schema import tree_hash


def new_run_id(now: datetime | None = None) -> str:
    """A new, unique run ID: the time in UTC to the second, and four random characters."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    tail = "".join(secrets.choice(alphabet) for _ in range(4))
    return f"{now or datetime.now(UTC):%Y%m%d-%H%M%S}-{tail}"


def render(
    manifests: Manifests,
    config: PipelineConfig,
    run: str,
    *,
    namespace: str | None = None,
    image: str | None = None,
    timeout_seconds: int | None = None,
) -> Plan:
    """Render the manifests for one run. Sends nothing. Raises BadInput.

    run: a DNS-1123 label of at most 40 characters. image: replaces the image of every container that has
    the stages' image. timeout_seconds: limit for one attempt of each stage whose configuration sets none.
    """
    namespace = namespace or manifests.namespace
    try:
        check_name(run, "run id")
        check_name(namespace, "namespace", longest=63)
    except ValueError as error:
        raise BadInput(str(error), "choose another one") from error
    files = config.config_files()
    config_name = f"{run}-config-{_hash_of(files)[:8]}"
    jobs: dict[Stage, Job] = {}
    for stage, template in manifests.jobs.items():
        job = copy.deepcopy(template)
        job["metadata"].setdefault("annotations", {})[ANNOTATION_STAGES] = ",".join(manifests.jobs)
        config.fill(stage, job)
        _set_image(job, image)
        _set_config_map(job, CONFIG_MAP)  # kustomize appended a hash of the file
        _stamp(job, ANNOTATION_WORK, stage, config)
        _set_placement(job, stage, config, timeout_seconds)
        nodes.spread(job, config.pods(stage))
        _stamp(job, ANNOTATION_HASH, stage, config)
        jobs[stage] = job
    plan_hash = tree_hash([jobs[stage]["metadata"]["annotations"][ANNOTATION_HASH] for stage in jobs])[:16]
    for stage, job in jobs.items():
        _set_run(job, stage, run, namespace, plan_hash, config_name)
        nodes.join(job, stage, run)
    config_map: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": config_name, "namespace": namespace, "labels": run_labels(run)},
        "data": {name: text for name, text in files.items() if isinstance(text, str)},
        "immutable": True,
    }
    if binary := {n: base64.b64encode(b).decode() for n, b in files.items() if isinstance(b, bytes)}:
        config_map["binaryData"] = binary
    placements = {stage: config.placement(stage) for stage in jobs}
    services = tuple(nodes.service_of(job, stage, run) for stage, job in jobs.items() if pods_of(job) > 1)
    return Plan(
        run,
        namespace,
        plan_hash,
        shared_in(manifests, namespace),
        config_map,
        jobs,
        placements,
        services,
        config.identity(),
        config.uploads(),
    )


def _hash_of(files: Mapping[str, str | bytes]) -> str:
    """The SHA-256 (hex) of a ConfigMap's files."""
    digests = {
        name: hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
        for name, content in files.items()
    }
    return tree_hash(digests)


def shared_in(manifests: Manifests, namespace: str | None = None) -> tuple[Object, ...]:
    """The objects that all runs share, in a namespace (None: the manifests' own)."""
    own = manifests.namespace
    return tuple(_in_namespace(item, own, namespace or own) for item in manifests.shared)


def for_server(job: Job, minor: int) -> Job:
    """The Job plus the retry settings that a server of Kubernetes 1.`minor` supports.

    These are not in the YAML: `kubectl` checks fields against the server, and 1.20 does not know them.
    """
    job = copy.deepcopy(job)
    if minor >= 26:
        disrupted = [{"type": "DisruptionTarget", "status": "True"}]
        rules: list[Object] = [{"action": "Ignore", "onPodConditions": disrupted}]
        if is_supervised(main_container(job)):  # another program's exit codes are its own
            nodes.count_causes_alone(job)
            stage = {"containerName": main_container(job)["name"], "operator": "In"}
            rules = [
                {"action": "FailJob", "onExitCodes": {**stage, "values": sorted(exit_codes.FINAL)}},
                {"action": "Ignore", "onExitCodes": {**stage, "values": sorted(exit_codes.FOLLOWING)}},
                *rules,
            ]
        job["spec"]["podFailurePolicy"] = {"rules": rules}
    if minor >= 29:
        job["spec"]["podReplacementPolicy"] = "Failed"  # never two writers at once
    return job


def without_gate(job: Job) -> Job:
    """The Job without the initContainer that waits for the stage before it.

    The launcher starts a stage only after the one before has succeeded, so it can save the cost of a
    container that finds the gate open.
    """
    job = copy.deepcopy(job)
    pod = job["spec"]["template"]["spec"]
    pod["initContainers"] = [c for c in pod.get("initContainers") or () if c["name"] != GATE]
    if not pod["initContainers"]:
        del pod["initContainers"]
    return job


def with_disruptions(job: Job, count: int) -> Job:
    """The Job as it is created again after `count` Pods were lost to disruptions."""
    job = copy.deepcopy(job)
    job["metadata"]["annotations"][ANNOTATION_DISRUPTIONS] = str(count)
    return job


def to_yaml(objects: Sequence[AnyObject]) -> str:
    """Format the objects as a stream of YAML documents, for people and for kubectl."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=110)


#: Text that some YAML reader takes for a number, a time, a boolean or null, by the rules of YAML 1.1, of 1.2
#: or of Go's libraries. PyYAML itself quotes only by some rules of 1.1.
_NO_TEXT: Final = re.compile(
    r"[-+]?[0-9.][0-9a-fox_.,:+\-tz \t]*|[-+]?\.(?:inf|nan)|y|yes|n|no|on|off|true|false|null|~|=|<<|",
    re.IGNORECASE,
)


class _Dumper(yaml.SafeDumper):
    """Writes multi-line text as a block, uses no aliases, quotes text that may be read as another type."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else "'" if _NO_TEXT.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _set_image(job: Job, image: str | None) -> None:
    if not image:
        return
    check_image(image)
    pod = job["spec"]["template"]["spec"]
    replaced = main_container(job)["image"]
    for container in containers(pod):
        if container["image"] == replaced:
            container["image"] = image


def set_resources(job: Job, cpu: str | None, memory: str | None) -> None:
    """Set the stage's CPU and memory requests, and its memory limit; None leaves what is there."""
    resources = main_container(job).setdefault("resources", {})
    if cpu:
        resources.setdefault("requests", {})["cpu"] = cpu
    if memory:
        resources.setdefault("requests", {})["memory"] = memory
        resources.setdefault("limits", {})["memory"] = memory


def _set_placement(job: Job, stage: Stage, config: PipelineConfig, timeout_seconds: int | None) -> None:
    placement = config.placement(stage)
    set_resources(job, placement.cpu, placement.memory)
    deadline = placement.timeout_seconds or timeout_seconds
    if deadline:
        job["spec"]["template"]["spec"]["activeDeadlineSeconds"] = deadline
    if placement.backoff_limit is not None:
        job["spec"]["backoffLimit"] = placement.backoff_limit


def _set_config_map(job: Job, name: str) -> None:
    for volume in job["spec"]["template"]["spec"].get("volumes") or ():
        if is_config_map(volume.get("configMap", {}).get("name", "")):
            volume["configMap"]["name"] = name


def _stamp(job: Job, annotation: str, stage: Stage, config: PipelineConfig) -> None:
    """Annotate the Job with the hash of everything that decides what it does, whatever the run's name.

    With `autosize` the launcher sets resources later (jobrelay.runs.sizing), outside the hash: whatever
    the newest run suggests, the Job counts as the same and is adopted.
    """
    own = config.decides(stage)
    annotations = job["metadata"].setdefault("annotations", {})
    decides: Object = {"spec": job["spec"], "config": own}
    if annotation == ANNOTATION_HASH and config.placement(stage).autosize:
        decides["autosize"] = True
    annotations[annotation] = tree_hash(decides)
    annotations[ANNOTATION_CONFIG] = json.dumps(own, sort_keys=True)


def _set_run(job: Job, stage: Stage, run: str, namespace: str, plan_hash: str, config_name: str) -> None:
    pod = job["spec"]["template"]["spec"]
    job["metadata"]["name"], job["metadata"]["namespace"] = f"{run}-{stage}", namespace
    template = job["spec"]["template"].setdefault("metadata", {})
    for metadata in (job["metadata"], template):
        metadata["labels"] = {**metadata.get("labels", {}), **run_labels(run), LABEL_COMPONENT: stage}
    job["metadata"]["labels"][LABEL_PLAN] = plan_hash
    for container in containers(pod):
        for variable in container.get("env") or ():
            if variable.get("name") == ENV_RUN:
                variable["value"] = run
    _set_config_map(job, config_name)


def _in_namespace(item: Object, own: str, namespace: str) -> Object:
    """A shared object, moved to `namespace` if it is in the Jobs' namespace `own` or names none.

    Objects in another namespace, or cluster-wide, stay there, as with `kubectl apply -k`.
    """
    item = copy.deepcopy(item)
    metadata = item["metadata"]
    if item["kind"] == "Namespace":
        metadata["name"] = namespace if metadata["name"] == own else metadata["name"]
    elif not is_cluster_wide(item) and metadata.get("namespace", own) == own:
        metadata["namespace"] = namespace
    return item

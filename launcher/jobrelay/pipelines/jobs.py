"""Pipeline → Jobs, from the template k8s/stage/job.yaml."""

from __future__ import annotations

import copy
import math
import shlex
from typing import Any, Final, cast

from jobrelay import manifests
from jobrelay.errors import BadInput
from jobrelay.kube.labels import LABEL_COMPONENT, PREPARE
from jobrelay.kube.objects import Container, Job, Object
from jobrelay.kube.quantities import parse_quantity
from jobrelay.kube.read import containers, main_container
from jobrelay.manifests import Manifests
from jobrelay.manifests.kustomize import documents
from jobrelay.manifests.runner import runner_config_map
from jobrelay.pipelines.definition import Pipeline, StageDefinition
from jobrelay.resources import K8S
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import ENV_RUN, WORKSPACE

TEMPLATE: Final = K8S / "stage" / "job.yaml"
#: Starts the runner, or the program itself where the image has no Python. $1 is runner.pyz; after `--` comes
#: the program. Exit codes that the launcher would read as the runner's become 1, as the runner does it.
BOOT: Final = """\
for python in python3 python; do
  if command -v "$python" >/dev/null 2>&1; then exec "$python" "$@"; fi
done
if [ "$2" != stage ]; then echo "$2: Python 3.8 or newer is missing in the image" >&2; exit 69; fi
echo "jobrelay: the image has no Python; the stage runs without a record" >&2
work="$JOBRELAY_VOLUME/runs/$JOBRELAY_RUN/workspace"
mkdir -p "$work" && cd "$work" || exit 1
code="${JOBRELAY_CONFIG%/*}/code.tar.gz"
if [ -f "$code" ] && [ ! -e ../.code ]; then tar xzf "$code" && : > ../.code || exit 1; fi
shift 4
"$@" &
program=$!
trap 'kill -TERM "$program" 2>/dev/null' TERM INT
wait "$program"; code=$?
while kill -0 "$program" 2>/dev/null; do wait "$program"; code=$?; done
case $code in 65|69|75|76|78) echo "jobrelay: exit code $code" >&2; exit 1;; esac
exit "$code"
"""
#: Makes the folders of the workspace that are mounted, as the stage's own user: the kubelet would make them
#: as root. $1 is runner.pyz, $2 whether to unpack the code; then a folder and the image's path that it starts
#: with, or nothing, and so on.
_PREPARE: Final = """\
runner="$1"; unpack="$2"; shift 2
work="$JOBRELAY_VOLUME/runs/$JOBRELAY_RUN/workspace"
while [ $# -gt 1 ]; do
  mkdir -p "$work/$1" || exit 1
  if [ -n "$2" ] && [ -d "$2" ] && [ -z "$(ls -A "$work/$1")" ]; then cp -a "$2/." "$work/$1/" || exit 1; fi
  shift 2
done
[ -n "$unpack" ] || exit 0
for python in python3 python; do
  if command -v "$python" >/dev/null 2>&1; then exec "$python" "$runner" unpack; fi
done
"""
_QUEUE: Final = "kueue.x-k8s.io/queue-name"
#: Text with one of these goes through a shell; any other is executed as it is, as make does.
_SHELL: Final = frozenset("|&;<>()$`\\\"'*?[]#~%{}!\n")


def manifests_of(pipeline: Pipeline) -> Manifests:
    """The Jobs of a pipeline, and the objects that all runs share. Raises BadInput."""
    base = manifests.load(manifests.BASE)
    jobs: dict[Stage, Job] = {}
    before: Stage | None = None
    for name, stage in pipeline.stages.items():
        jobs[name] = _job(pipeline, name, stage, before)
        before = name
    runner = runner_config_map(base.namespace)
    for job in jobs.values():
        for volume in job["spec"]["template"]["spec"]["volumes"]:
            if volume["name"] == "runner":
                volume["configMap"]["name"] = runner["metadata"]["name"]
    shared = base.shared
    if _uses_image_rights(pipeline):
        shared = tuple(_without_restriction(item) for item in shared)
    return Manifests(pipeline.source, base.namespace, (*shared, runner), jobs, {}, base.placed)


def command_of(run: str | tuple[str, ...]) -> list[str]:
    """The words to execute: of text, its own words, or a shell's if it needs one."""
    if not isinstance(run, str):
        return list(run)
    return ["sh", "-c", run] if _SHELL & set(run) else shlex.split(run)


def _uses_image_rights(pipeline: Pipeline) -> bool:
    return any((stage.security or pipeline.security) == "image" for stage in pipeline.stages.values())


def _without_restriction(item: Object) -> Object:
    """The Namespace, if it is still to be created, with a Pod Security that allows the image's own user."""
    if item["kind"] == "Namespace":
        item = copy.deepcopy(item)
        labels = item["metadata"].get("labels", {})
        item["metadata"]["labels"] = {
            key: "baseline" if key.startswith("pod-security") and value == "restricted" else value
            for key, value in labels.items()
        }
    return item


def _job(pipeline: Pipeline, name: Stage, stage: StageDefinition, before: Stage | None) -> Job:
    job = cast(Job, next(documents(TEMPLATE)))
    job = copy.deepcopy(job)  # YAML's anchors make one object of several
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    job["metadata"]["name"] = name
    for labels in (job["metadata"]["labels"], spec["template"]["metadata"]["labels"]):
        labels[LABEL_COMPONENT] = name
    main = main_container(job)
    main["name"] = name
    image = stage.image or pipeline.image or main["image"]
    for container in containers(pod):
        container["image"] = manifests.check_image(image)
        container["command"] = ["sh", "-c", BOOT, *container["command"][3:]]
        container["env"] = copy.deepcopy(container["env"])
        container["volumeMounts"] = copy.deepcopy(container["volumeMounts"])
    if before:
        pod["initContainers"][0]["args"] = ["wait", before]
    else:
        pod["initContainers"] = []
    pod["initContainers"] += _preparing(pipeline, name, stage, main)
    if not pod["initContainers"]:
        del pod["initContainers"]
    main["args"] = ["stage", name, "--"]
    _set_security(cast(Any, pod), pipeline, name, stage)
    _set_resources(main, pod, stage)
    main["env"] += [
        {"name": variable, "valueFrom": {"secretKeyRef": _secret(name, variable, source)}}
        for variable, source in stage.secrets.items()
    ]
    mounts = sorted((path, folder) for path, folder in stage.mounts.items() if path.startswith("/"))
    main["volumeMounts"] += [_mount(path, folder) for path, folder in mounts]
    spec["backoffLimit"] = stage.retries
    pod["terminationGracePeriodSeconds"] = stage.grace_seconds
    if stage.queue:
        job["metadata"]["labels"][_QUEUE] = stage.queue
    return job


def _preparing(pipeline: Pipeline, name: Stage, stage: StageDefinition, main: Container) -> list[Container]:
    """The container that has to run before the stage's mounts are made, where there is need for one.

    The kubelet makes a folder that is mounted, and those above it, as root: nobody else could write there. A
    named volume starts with the image's files, while it is empty; and a file must be there to be mounted.
    """
    seeded = {stage.mounts[path].removeprefix("./"): path for path in pipeline.seeded.get(name, ())}
    mounted = [
        folder.removeprefix("./")
        for path, folder in stage.mounts.items()
        if path.startswith("/") and not folder.startswith("data/")
    ]
    single = {place for place, source in pipeline.files.items() if source.is_file()}
    needs_code = bool(single & set(mounted))
    is_root = (stage.security or pipeline.security) == "image"
    if not seeded and not needs_code and (is_root or not mounted):
        return []
    container = copy.deepcopy(main)
    container["name"] = PREPARE
    container["command"] = ["sh", "-c", _PREPARE, *container["command"][3:]]
    folders = [place for place in mounted if place not in single]
    words = [word for place in folders for word in (place, seeded.get(place, ""))]
    container["args"] = ["unpack" if needs_code else "", *words]
    return [container]


def _set_security(pod: Any, pipeline: Pipeline, name: Stage, stage: StageDefinition) -> None:
    if (stage.security or pipeline.security) == "image":
        pod["securityContext"] = {}
        for container in containers(pod):
            cast(Object, container).pop("securityContext", None)
    if user := pipeline.users.get(name):
        uid, _, gid = user.partition(":")
        context = pod["securityContext"]
        context["runAsUser"] = int(uid)
        if gid:
            context["runAsGroup"] = context["fsGroup"] = int(gid)
        context["runAsNonRoot"] = int(uid) != 0


def _set_resources(main: Any, pod: Any, stage: StageDefinition) -> None:
    resources = main["resources"]
    if stage.cpu:
        resources["requests"]["cpu"] = stage.cpu
        # libraries start a thread per core that they see, which are all of the node
        if "OMP_NUM_THREADS" not in stage.env:
            threads = max(1, math.ceil(parse_quantity(stage.cpu)))
            main["env"].append({"name": "OMP_NUM_THREADS", "value": str(threads)})
    if stage.memory:
        resources["requests"]["memory"] = stage.memory
        resources["limits"] = {"memory": stage.memory}
    if stage.gpus:
        resources.setdefault("limits", {})[stage.gpu_type] = str(stage.gpus)
    main["volumeMounts"].append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    for volume in pod["volumes"]:
        if volume["name"] == "shm":
            volume["emptyDir"]["sizeLimit"] = stage.shm


def _mount(path: str, folder: str) -> Object:
    """A folder of the workspace, or of data/NAME (which no stage may change), at an absolute path."""
    folder = folder.rstrip("/")
    if folder.startswith("data/"):
        return {"name": "volume", "mountPath": path, "subPath": folder, "readOnly": True}
    inner = f"runs/$({ENV_RUN})/{WORKSPACE}/{folder.removeprefix('./')}".rstrip("/.")
    return {"name": "volume", "mountPath": path, "subPathExpr": inner}


def _secret(stage: Stage, variable: str, source: str) -> Object:
    name, slash, key = source.partition("/")
    if not (name and slash and key):
        raise BadInput(f"stages.{stage}.secrets.{variable}: {source!r} is not SECRET/KEY")
    return {"name": name, "key": key}

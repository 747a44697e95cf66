"""Names that stand in manifests, each once, and small readers of objects."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from jobrelay.errors import BadInput

Object = dict[str, Any]


LABEL_NAME: Final = "app.kubernetes.io/name"


LABEL_COMPONENT: Final = "app.kubernetes.io/component"


LABEL_PART_OF: Final = "app.kubernetes.io/part-of"


LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"


LABEL_RUN: Final = "jobrelay.dev/run"


#: On the Pods of a stage that runs as several: how many.
LABEL_NODES: Final = "jobrelay.dev/nodes"


#: Equal for runs of the same manifests, image and configuration.
LABEL_PLAN: Final = "jobrelay.dev/plan"


ANNOTATION_HASH: Final = "jobrelay.dev/spec-hash"


#: Equal for Jobs that do the same work, however much they may use for it.
ANNOTATION_WORK: Final = "jobrelay.dev/work-hash"


ANNOTATION_CONFIG: Final = "jobrelay.dev/config"


ANNOTATION_VERDICT: Final = "jobrelay.dev/verdict"


#: Pods that were lost before the Job was made anew: they count on.
ANNOTATION_DISRUPTIONS: Final = "jobrelay.dev/disruptions"


#: Kubernetes's own, on every Pod of an Indexed Job.
ANNOTATION_INDEX: Final = "batch.kubernetes.io/job-completion-index"
#: Started while the stage before still ran; the seconds that it may run itself, if there is a limit.
ANNOTATION_EARLY: Final = "jobrelay.dev/early"


GATE: Final = "gate"


CONFIG_MAP: Final = "jobrelay-config"


CONFIG_FILE: Final = "config.yaml"


def is_config_map(name: str) -> bool:
    """Whether it is the run's configuration: its name, as it is or with kustomize's hash behind it."""
    return re.fullmatch(rf"{CONFIG_MAP}(-[a-z0-9]{{10}})?", name) is not None


def run_labels(run: str) -> dict[str, str]:
    """Labels of everything that belongs to a run."""
    return {LABEL_NAME: "jobrelay", LABEL_PART_OF: "jobrelay", LABEL_MANAGED_BY: "jobrelay", LABEL_RUN: run}


def main_container(item: Object) -> Object:
    """The stage's own container, of a Job or a Pod: the one named like the stage, else the first of its spec.

    What the kubelet reports of it is found by its name: statuses are sorted by name, not as in the spec.
    """
    stage = item["metadata"].get("labels", {}).get(LABEL_COMPONENT)
    containers: list[Object] = item["spec"].get("template", item)["spec"]["containers"]
    return next((c for c in containers if c["name"] == stage), containers[0])


def runs_jobs(container: Object) -> bool:
    """Whether its command is JobRelay's own program (`python -m jobrelay_train …`).

    Only that has the exit codes of jobrelay_runner.exit_codes: of any other program, 75 means what its
    author meant.
    """
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    return ("-m", "jobrelay_train") in itertools.pairwise(words)


def containers(pod: Object) -> Iterator[Object]:
    """All containers of a Pod's spec, in the order in which they start."""
    yield from pod.get("initContainers") or ()
    yield from pod["containers"]


def image_that_ran(jobs: Iterable[Object], run: str | None, claim: str) -> str | None:
    """The image of the newest Job on that claim: of this run if it has one, of its first stage there."""
    there = [job for job in jobs if claim in _claims(job)]
    own = [job for job in there if job["metadata"]["labels"].get(LABEL_RUN) == run]
    return str(main_container((own[:1] or there[-1:])[0])["image"]) if there else None


def _claims(job: Object) -> set[str]:
    volumes = job["spec"]["template"]["spec"].get("volumes") or ()
    return {volume.get("persistentVolumeClaim", {}).get("claimName", "") for volume in volumes}


def claim_name(job: Object) -> str:
    """The PersistentVolumeClaim that a Job mounts. Raises BadInput if it mounts none."""
    for volume in job["spec"]["template"]["spec"].get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim", {}).get("claimName"):
            return str(claim)
    raise BadInput(
        f"{title(job)} mounts no PersistentVolumeClaim",
        "stages hand their work on over one volume: add it to spec.template.spec.volumes",
    )


def title(item: Object) -> str:
    """Job mnist-a-train"""
    return f"{item['kind']} {item['metadata']['name']}"

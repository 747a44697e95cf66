"""Names that manifests and objects use, each defined once: labels, annotations, a run's objects."""

from __future__ import annotations

import re
from typing import Final

LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_RUN: Final = "jobrelay.dev/run"
#: On the Pods of a stage that runs as several: their number.
LABEL_NODES: Final = "jobrelay.dev/nodes"
#: Equal for runs of the same manifests, image and configuration.
LABEL_PLAN: Final = "jobrelay.dev/plan"
ANNOTATION_HASH: Final = "jobrelay.dev/spec-hash"
#: Equal for Jobs that do the same work, whatever resources they may use.
ANNOTATION_WORK: Final = "jobrelay.dev/work-hash"
ANNOTATION_CONFIG: Final = "jobrelay.dev/config"
#: On a Job of a folder: the stages that it comes after.
ANNOTATION_AFTER: Final = "jobrelay.dev/after"
#: All stages of the run, in order: train,eval,infer.
ANNOTATION_STAGES: Final = "jobrelay.dev/stages"
ANNOTATION_VERDICT: Final = "jobrelay.dev/verdict"
#: How many Pods were lost before the Job was created again; they still count.
ANNOTATION_DISRUPTIONS: Final = "jobrelay.dev/disruptions"
#: Kubernetes's own, on every Pod of an Indexed Job.
ANNOTATION_INDEX: Final = "batch.kubernetes.io/job-completion-index"
#: Set on a Job started while the stage before it still ran: the seconds it may run itself, or empty.
ANNOTATION_EARLY: Final = "jobrelay.dev/early"
GATE: Final = "gate"
#: The container that makes the folders which a stage mounts.
PREPARE: Final = "prepare"
#: The runner as one file, in a ConfigMap (pipelines.runner).
RUNNER_FILE: Final = "runner.pyz"
CONFIG_MAP: Final = "jobrelay-config"
CONFIG_FILE: Final = "config.yaml"


def is_config_map(name: str) -> bool:
    """Whether this is the run's configuration: its plain name, or that name with kustomize's hash."""
    return re.fullmatch(rf"{CONFIG_MAP}(-[a-z0-9]{{10}})?", name) is not None


def run_labels(run: str) -> dict[str, str]:
    """Labels of every object that belongs to a run."""
    return {LABEL_NAME: "jobrelay", LABEL_PART_OF: "jobrelay", LABEL_MANAGED_BY: "jobrelay", LABEL_RUN: run}

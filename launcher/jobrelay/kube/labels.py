"""Names that stand in manifests, each once: labels, annotations, and what a run's objects are called."""

from __future__ import annotations

import re
from typing import Final

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
#: How many Pods were lost before the Job was created again: they still count.
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

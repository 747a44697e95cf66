"""Kubernetes manifests: read them, check them, render them for one run. Dicts in, dicts out."""

from jobrelay.manifests.comparing import differing_keys, differing_paths
from jobrelay.manifests.early import can_wait, started_early, waits_for
from jobrelay.manifests.nodes import (
    INDEXED_SINCE,
)
from jobrelay.manifests.pipeline import PipelineConfig
from jobrelay.manifests.plan import Plan
from jobrelay.manifests.reader import Reader
from jobrelay.manifests.reading import BASE, Manifests, check_image, load
from jobrelay.manifests.rendering import (
    for_server,
    new_run_id,
    render,
    set_resources,
    shared_in,
    to_yaml,
    with_disruptions,
    without_gate,
)

__all__ = [
    "BASE",
    "INDEXED_SINCE",
    "Manifests",
    "PipelineConfig",
    "Plan",
    "Reader",
    "can_wait",
    "check_image",
    "differing_keys",
    "differing_paths",
    "for_server",
    "load",
    "new_run_id",
    "render",
    "set_resources",
    "shared_in",
    "started_early",
    "to_yaml",
    "waits_for",
    "with_disruptions",
    "without_gate",
]

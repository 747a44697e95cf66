"""Compare a live Job with the wanted one and list the differences."""

from __future__ import annotations

import json
from typing import Any

from jobrelay.kube.labels import ANNOTATION_CONFIG, ANNOTATION_EARLY, CONFIG_MAP, LABEL_RUN
from jobrelay.kube.objects import Job


def differing_keys(wanted: Job, live: Job) -> list[str]:
    """Where a live Job differs from the wanted one: configuration keys and paths in its spec.

    Fields that only the server sets do not count.
    """
    before, after = (
        _flat(json.loads(job["metadata"].get("annotations", {}).get(ANNOTATION_CONFIG, "{}")))
        for job in (live, wanted)
    )
    for tree in (before, after):
        tree.setdefault("device", "auto")  # kept only where a device was named explicitly
    keys = [
        f"{key}: {_shown(before.get(key))} there, {_shown(after.get(key))} wanted"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    there, want = _flat(live["spec"], "spec"), _flat(wanted["spec"], "spec")
    early = live["metadata"].get("annotations", {}).get(ANNOTATION_EARLY)
    if early and early.isdigit():  # its Pod's deadline includes the wait; the wanted one's does not
        there["spec.template.spec.activeDeadlineSeconds"] = int(early)
    for path, value in want.items():
        is_name = CONFIG_MAP in path or str(value).startswith(
            f"{wanted['metadata']['labels'][LABEL_RUN]}-config-"
        )
        if there.get(path) != value and not is_name:
            keys.append(f"{path}: {_shown(there.get(path))} there, {_shown(value)} wanted")
    return keys


def differing_paths(wanted: Any, live: Any) -> list[str]:
    """Where two trees differ: spec.egress[0]: {} there, nothing wanted."""
    there, want = _flat(live, "spec", empty=True), _flat(wanted, "spec", empty=True)
    return [
        f"{path}: {there.get(path, 'nothing')} there, {want.get(path, 'nothing')} wanted"
        for path in sorted(there.keys() | want.keys())
        if there.get(path) != want.get(path)
    ]


def _shown(value: Any) -> str:
    """Format a value as YAML writes it."""
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(tree: Any, prefix: str = "", *, empty: bool = False) -> dict[str, Any]:
    """Flatten a tree: {"a": {"b": [1]}} → {"a.b[0]": 1}; a list of named items is keyed by their names.

    empty: keep empty containers as leaves instead of dropping them.
    """
    if isinstance(tree, dict) and (tree or not empty):
        pairs = [(f"{prefix}.{key}" if prefix else key, value) for key, value in tree.items()]
    elif isinstance(tree, list) and (tree or not empty):
        pairs = []
        for index, value in enumerate(tree):
            key = value.get("name", index) if isinstance(value, dict) else index
            pairs.append((f"{prefix}[{key}]", value))
    else:
        return {prefix: tree}
    return {path: leaf for name, value in pairs for path, leaf in _flat(value, name, empty=empty).items()}

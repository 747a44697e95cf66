"""ConfigMaps on this machine: a folder each, with one file per key."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.executors.local import layout
from jobrelay.kube.objects import Object, PodSpec
from jobrelay.kube.read import containers
from jobrelay_runner.volume import safe_read

#: ConfigMaps by name, and their files.
ConfigMaps = Mapping[str, Mapping[str, bytes]]

#: As in Kubernetes: a ConfigMap has at most 1 MiB, and its keys match this pattern.
_BYTES: Final = 2**20
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def contents_of(config_map: Object) -> dict[str, bytes]:
    """The files of a ConfigMap. Raises BadInput for what Kubernetes would refuse."""
    name = config_map["metadata"]["name"]
    contents: dict[str, bytes] = {}
    try:
        contents.update({key: text.encode() for key, text in (config_map.get("data") or {}).items()})
        binary = config_map.get("binaryData") or {}
        contents.update({key: base64.b64decode(text, validate=True) for key, text in binary.items()})
    except (AttributeError, ValueError, TypeError) as error:
        raise BadInput(f"ConfigMap {name}: its data is not text: {error}", "quote the values") from error
    names = [name, *contents]
    if wrong := next((key for key in names if not _KEY.fullmatch(key) or key.startswith("..")), None):
        raise BadInput(
            f"ConfigMap {name}: {wrong!r} cannot be a name", "use letters, digits, '-', '_' and '.'"
        )
    return contents


def given(objects: Sequence[Object]) -> dict[str, dict[str, bytes]]:
    """The files of every ConfigMap in the manifests, by name. Raises BadInput."""
    return {item["metadata"]["name"]: contents_of(item) for item in objects if item["kind"] == "ConfigMap"}


def named_in(spec: PodSpec) -> set[str]:
    """Names of the ConfigMaps that a Pod's spec refers to."""
    names: set[str | None] = {volume.get("configMap", {}).get("name") for volume in spec.get("volumes") or ()}
    for container in containers(spec):
        names |= {source.get("configMapRef", {}).get("name") for source in container.get("envFrom") or ()}
        for variable in container.get("env") or ():
            names.add(((variable.get("valueFrom") or {}).get("configMapKeyRef") or {}).get("name"))
    return {name for name in names if name}


def kept(root: Path, names: Iterable[str]) -> dict[str, dict[str, bytes]]:
    """The ConfigMaps with these names that the volume has. Raises OSError."""
    found: dict[str, dict[str, bytes]] = {}
    for name in names:
        folder = layout.config_folder(root, name)
        if folder.is_dir():
            paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
            found[name] = {path.name: safe_read.read_bytes(path, _BYTES, root=folder) for path in paths}
    return found

"""ConfigMaps on this machine: a folder each, a file a key."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jobs.contract import safe_read
from launcher.errors import BadInput
from launcher.executors.local import layout

Object = dict[str, Any]
#: Names of ConfigMaps, and what they hold.
ConfigMaps = Mapping[str, Mapping[str, bytes]]

#: As in Kubernetes: a ConfigMap has at most 1 MiB, and these are names of its keys.
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
    """Every ConfigMap among manifests. Raises BadInput."""
    return {item["metadata"]["name"]: contents_of(item) for item in objects if item["kind"] == "ConfigMap"}


def kept(root: Path) -> dict[str, dict[str, bytes]]:
    """Every ConfigMap that is kept on the volume."""
    folder = root / layout.JOBS / layout.CONFIG
    found: dict[str, dict[str, bytes]] = {}
    for path in folder.glob("*/*") if folder.is_dir() else ():
        if not path.name.startswith("."):
            try:
                content = safe_read.read_bytes(path, _BYTES, root=folder)
            except FileNotFoundError:
                continue  # deleted meanwhile
            found.setdefault(path.parent.name, {})[path.name] = content
    return found

"""The entries of `volumes` in a service, short and long form."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Final

from jobrelay.pipelines.compose.model import Base
from jobrelay.pipelines.compose.text.yamlfile import as_text

_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")
#: A volume may have a name of one letter: a:/data is not a drive, C:/Users/me:/data is one.
_SHORT_DRIVE: Final = re.compile(r"[A-Za-z]:(?:\\|/.*:/)")
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_LONG: Final = frozenset(("type", "source", "src", "target", "destination", "dst", "read_only", "readonly",
                          "bind", "volume", "tmpfs", "image", "consistency"))  # fmt: skip


def parse_mount(entry: Any, base: Base) -> dict[str, Any]:
    """An entry in one form: type, source (absolute path, name of a volume, None), target, read_only, nocopy,
    subpath. Raises ValueError."""
    mount = _long(entry) if isinstance(entry, dict) else _short(as_text(entry))
    source, kind = mount["source"], mount["type"]
    mount["target"] = _target(mount["target"])
    if kind == "bind":
        if not source:
            raise ValueError(f"the mount of {mount['target']} has no source")
        if not is_windows_path(source):
            mount["source"] = base.absolute(source)
    elif kind == "volume" and source and not _NAME.fullmatch(source):
        raise ValueError(f"{source!r} is not a name of a volume; a folder is written ./{source}")
    return mount


def is_windows_path(source: str) -> bool:
    return bool(_DRIVE.match(source)) or source.startswith("\\\\")


def _short(text: str) -> dict[str, Any]:
    drive = 2 if _SHORT_DRIVE.match(text) else 0
    parts = text[drive:].split(":")
    parts[0] = text[:drive] + parts[0]
    if len(parts) > 3 or not all(parts):
        raise ValueError(f"{text!r} is not SOURCE:TARGET[:MODE]")
    if len(parts) == 1:
        return _mount("volume", None, parts[0])
    source, target, modes = parts[0], parts[1], parts[2].split(",") if len(parts) == 3 else []
    local = source[0] in "./~\\" or is_windows_path(source)
    return _mount("bind" if local else "volume", source, target, "ro" in modes, "nocopy" in modes)


def _mount(
    kind: str, source: str | None, target: str, read_only: bool = False, nocopy: bool = False,
    subpath: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "type": kind, "source": source, "target": target, "read_only": read_only, "nocopy": nocopy,
        "subpath": subpath,
    }  # fmt: skip


def _long(entry: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(entry) - _LONG):
        raise ValueError(f"unknown key {unknown[0]} in a volume")
    target = entry.get("target") or entry.get("destination") or entry.get("dst")
    if not isinstance(target, str):
        raise ValueError("an entry has no target")
    source = entry.get("source", entry.get("src"))
    options = entry.get("volume") or {}
    read_only = entry.get("read_only", entry.get("readonly")) in (True, "true")
    return _mount(
        str(entry.get("type") or "volume"),
        None if source is None else as_text(source),
        target,
        read_only,
        options.get("nocopy") in (True, "true"),
        options.get("subpath"),
    )


def _target(target: str) -> str:
    """The path in the container, normal: `/app/../data/` is /data."""
    if not target.startswith("/"):
        raise ValueError(f"the target {target!r} is not absolute; write /{posixpath.normpath(target)}")
    normal = "/" + posixpath.normpath(target).lstrip("/")
    if normal == "/":
        raise ValueError("a volume cannot take the place of /")
    return normal

"""The short forms of compose brought into one long form, and the merging of two services."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose.model import Base
from jobrelay.pipelines.compose.text.yamlfile import Replaced, as_text
from jobrelay.pipelines.compose.volumes import parse_mount

_URL: Final = re.compile(r"^(?:https?|git|ssh|oci-layout|docker-image)://|^git@|\.git(?:#|$)|^github\.com/")


def service(name: str, tree: Any, base: Base, source: Path) -> dict[str, Any]:
    """One service in long form; its relative paths become absolute. Raises BadInput."""
    if isinstance(tree, Replaced):
        tree = tree.value
    if tree is not None and not isinstance(tree, dict):
        raise BadInput(f"{source}: service {name}: must be a mapping")
    forms = _forms(base)
    result: dict[str, Any] = {}
    for key, value in (tree or {}).items():
        try:
            result[key] = _apply(forms.get(key), value)
        except ValueError as error:
            raise BadInput(f"{source}: service {name}: {key}: {error}") from error
    return result


def _apply(form: Callable[[Any], Any] | None, value: Any) -> Any:
    if form is None or value is None:
        return value
    return Replaced(_apply(form, value.value)) if isinstance(value, Replaced) else form(value)


def _forms(base: Base) -> Mapping[str, Callable[[Any], Any]]:
    return {
        "environment": table,
        "build": lambda value: _build(value, base),
        "depends_on": _dependencies,
        "env_file": lambda value: [_env_file(entry, base) for entry in _sequence(value)],
        "volumes": lambda value: _by_target([parse_mount(entry, base) for entry in _sequence(value)]),
        "secrets": lambda value: [_named(entry) for entry in _sequence(value)],
        "configs": lambda value: [_named(entry) for entry in _sequence(value)],
        "profiles": _texts,
        "links": _texts,
        "extends": lambda value: {"service": value} if isinstance(value, str) else value,
    }


def _sequence(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value]
    return value if isinstance(value, list) else [value]


def _texts(value: Any) -> list[str]:
    return [as_text(entry) for entry in _sequence(value)]


def table(value: Any) -> dict[str, Any]:
    """NAME=VALUE lines, or a mapping, as a mapping; a name without a value has None. Raises ValueError."""
    if isinstance(value, dict):
        if wrong := [key for key, entry in value.items() if isinstance(entry, dict | list)]:
            raise ValueError(f"{wrong[0]} must be one value")
        return value
    if not isinstance(value, list):
        raise ValueError("must be a mapping, or a list of NAME=VALUE")
    result: dict[str, Any] = {}
    for entry in value:
        if isinstance(entry, dict):  # `- NAME: value`, which looks like NAME=value and is common
            raise ValueError(f"write '- {next(iter(entry), '')}=…', or a mapping without the dashes")
        key, mark, text = as_text(entry).partition("=")
        result[key.strip() if mark else key] = text if mark else None
    return result


def _build(value: Any, base: Base) -> dict[str, Any]:
    build = {"context": value} if isinstance(value, str) else value
    if not isinstance(build, dict):
        raise ValueError("must be a folder or a mapping")
    result = dict(build)
    context = result.get("context", ".")
    if not isinstance(context, Replaced):
        text = as_text(context) or "."
        if _URL.search(text):
            raise ValueError(f"the context {text} is not a local folder; clone it, and name the folder")
        result["context"] = base.absolute(text)
    if result.get("args") is not None:
        result["args"] = _apply(table, result["args"])
    return result


def _dependencies(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        raise ValueError(f"write [{value}]")
    if isinstance(value, list):
        return {as_text(name): {"condition": "service_started"} for name in value}
    if not isinstance(value, dict):
        raise ValueError("must be a list or a mapping")
    return {
        name: dict(entry or {}) if isinstance(entry, dict | None) else {} for name, entry in value.items()
    }


def _env_file(entry: Any, base: Base) -> dict[str, Any]:
    form = dict(entry) if isinstance(entry, dict) else {"path": as_text(entry)}
    if not isinstance(form.get("path"), str) or not form["path"]:
        raise ValueError("an entry needs a path")
    return {**form, "path": base.absolute(form["path"])}


def _named(entry: Any) -> dict[str, Any]:
    form = dict(entry) if isinstance(entry, dict) else {"source": as_text(entry)}
    if not isinstance(form.get("source"), str):
        raise ValueError("an entry needs a source")
    return form


def _by_target(mounts: list[dict[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for mount in mounts:
        target = mount["target"]
        if target in result and result[target] != mount:
            raise ValueError(f"two volumes have the target {target}")
        result[target] = mount
    return result


def merged(base: Any, over: Any, key: str = "") -> Any:
    """Two trees in long form, as Docker merges files: mappings by key, lists appended, the rest replaced."""
    if isinstance(over, Replaced):
        return over
    if isinstance(base, Replaced):
        base = base.value
    if over is None or key in ("command", "entrypoint") or base is None:
        return base if over is None else over
    if isinstance(base, dict) and isinstance(over, dict):
        if key == "volumes:":  # one place in a container: what is mounted there is replaced as a whole
            return {**base, **over}
        result = dict(base)
        for name, value in over.items():
            result[name] = merged(base.get(name), value, "volumes:" if name == "volumes" else name)
        return result
    if isinstance(base, list) and isinstance(over, list):
        return [*base, *(entry for entry in over if entry not in base)]
    return over


def plain(tree: Any) -> Any:
    """The tree after merging, without the marks of `!override`, and without what `!reset` removes."""
    if isinstance(tree, Replaced):
        return plain(tree.value)
    if isinstance(tree, dict):
        return {
            key: plain(value)
            for key, value in tree.items()
            if not (isinstance(value, Replaced) and value.value is None)
        }
    return [plain(entry) for entry in tree] if isinstance(tree, list) else tree

"""From files to a project: .env, override file, `include`, `extends`, profiles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose import canonical, keys
from jobrelay.pipelines.compose.model import Base, Notes, Project, Service
from jobrelay.pipelines.compose.text import dotenv, yamlfile
from jobrelay.pipelines.compose.text.interpolation import Variables
from jobrelay.pipelines.compose.text.yamlfile import as_text

_DEFAULT_NAMES: Final = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES: Final = tuple(
    f"{stem}.override.{suffix}" for stem in ("compose", "docker-compose") for suffix in ("yml", "yaml")
)
_SECTIONS: Final = ("services", "volumes", "secrets", "configs")


def load(
    file: Path,
    overrides: Sequence[Path],
    named: Sequence[str],
    profiles: Sequence[str],
    environment: Mapping[str, str],
) -> Project:
    """Read a compose file and everything it refers to. Raises BadInput.

    named: services that the user names; they are active whatever their profile.
    """
    file = file.absolute()
    folder = file.parent
    values = {"PWD": str(folder), **environment}
    if (folder / ".env").is_file():
        values = {**dotenv.read(folder / ".env", values), **values}
    base = Base(folder, values.get("HOME", "~"))
    notes = Notes()
    files = _Files(Variables(values), notes)
    tree = files.read(file, base)
    if not overrides and (override := _override(file)):
        overrides = [override]
        notes.add(f"{override.name}: merged into {file.name}, as Docker does")
    for path in overrides:
        over = files.read(path.absolute(), base)
        tree = {key: canonical.merged(tree.get(key), over.get(key)) for key in {**tree, **over}}
    for name in files.variables.unset:
        notes.add(f"${{{name}}} is not set: empty text, as with Docker")
    tree = canonical.plain(tree)
    services = {name: Service(name, config, file) for name, config in tree.get("services", {}).items()}
    if not services:
        raise BadInput(f"{file}: it has no services")
    if unknown := [name for name in named if name not in services]:
        raise BadInput(f"{file}: there is no service {unknown[0]}", f"it has {', '.join(services)}")
    chosen = {*profiles, *filter(None, re.split(r"[,\s]+", values.get("COMPOSE_PROFILES", "")))}
    active = {name for name, service in services.items() if named or _active(service, chosen)}
    return Project(
        file=file,
        folder=folder,
        name=_project_name(tree.get("name") or values.get("COMPOSE_PROJECT_NAME") or folder.resolve().name),
        services={name: service for name, service in services.items() if name in active},
        inactive={name: service for name, service in services.items() if name not in active},
        volumes=tree.get("volumes", {}),
        secrets=tree.get("secrets", {}),
        configs=tree.get("configs", {}),
        values=values,
        notes=notes,
    )


def _override(file: Path) -> Path | None:
    if file.name not in _DEFAULT_NAMES:
        return None
    return next((path for name in _OVERRIDES if (path := file.parent / name).is_file()), None)


def _active(service: Service, chosen: set[str]) -> bool:
    own = service.items("profiles")
    return not own or "*" in chosen or not chosen.isdisjoint(own)


def _project_name(text: Any) -> str:
    return re.sub(r"[^a-z0-9_-]", "", as_text(text).lower()).lstrip("_-") or "compose"


@dataclass
class _Files:
    """The compose files of a project. Each is read once."""

    variables: Variables
    notes: Notes
    _read: dict[Path, dict[str, Any]] = field(default_factory=dict)
    _including: list[Path] = field(default_factory=list)

    def read(self, file: Path, base: Base) -> dict[str, Any]:
        """The file with variables replaced, services in long form, `include` and `extends` done."""
        tree = self._long_form(file, base)
        services = {name: self._extended(name, file, base, ()) for name in tree["services"]}
        result = {**tree, "services": services}
        for entry in tree.get("include") or []:
            included = self._include(entry, file, base)
            for section in _SECTIONS:
                both = included.get(section, {}).keys() & result.get(section, {}).keys()
                if both and section == "services":
                    raise BadInput(f"{file}: include: the service {min(both)} exists already")
                result[section] = {**included.get(section, {}), **result.get(section, {})}
        return result

    def _long_form(self, file: Path, base: Base) -> dict[str, Any]:
        if file not in self._read:
            tree = yamlfile.load(file)
            keys.check_top(tree, file)
            tree = {
                key: self.variables.expand_tree(value, f"{file}: {key}")
                for key, value in tree.items()
                if not key.startswith("x-")
            }
            for section in _SECTIONS:
                if not isinstance(tree.setdefault(section, {}) or {}, dict):
                    raise BadInput(f"{file}: {section}: must be a mapping")
                tree[section] = tree[section] or {}
            tree["services"] = {
                name: self._service(name, service, base, file)
                for name, service in tree["services"].items()
                if not name.startswith("x-")
            }
            for section in ("secrets", "configs"):
                tree[section] = {name: _with_path(entry, base) for name, entry in tree[section].items()}
            self._read[file] = tree
        return self._read[file]

    def _service(self, name: str, tree: Any, base: Base, file: Path) -> dict[str, Any]:
        try:
            return canonical.service(name, tree, base, file)
        except BadInput as error:
            if not self.variables.unset or error.hint:
                raise
            unset = ", ".join(self.variables.unset)
            raise BadInput(
                error.what, f"variables without a value: {unset}; the file .env can set them"
            ) from error

    def _extended(self, name: str, file: Path, base: Base, chain: tuple[str, ...]) -> dict[str, Any]:
        services = self._long_form(file, base)["services"]
        own = dict(services[name])
        extends = own.pop("extends", None)
        if extends is None:
            return own
        where = f"{file}: service {name}: extends"
        if not isinstance(extends, dict) or not isinstance(extends.get("service"), str):
            raise BadInput(f"{where}: names no service")
        step = f"{file}:{name}"
        if step in chain:
            raise BadInput(f"{where}: the services extend each other in a circle")
        other, parent = file, extends["service"]
        if extends.get("file"):
            other = Path(base.absolute(as_text(extends["file"])))
        other_base = base if other == file else base.at(other.parent)
        if parent not in self._long_form(other, other_base)["services"]:
            raise BadInput(f"{where}: there is no service {parent} in {other}")
        inherited = self._extended(parent, other, other_base, (*chain, step))
        return dict(canonical.merged(inherited, own))

    def _include(self, entry: Any, file: Path, base: Base) -> dict[str, Any]:
        form = entry if isinstance(entry, dict) else {"path": entry}
        paths = form.get("path")
        paths = paths if isinstance(paths, list) else [paths]
        if extra := sorted(set(form) - {"path", "project_directory"}):
            raise BadInput(f"{file}: include: {extra[0]} is not supported")
        if file in self._including:
            raise BadInput(f"{file}: include: the files include each other in a circle")
        self._including.append(file)
        result: dict[str, Any] = {}
        for path in paths:
            other = Path(base.absolute(as_text(path)))
            project = form.get("project_directory")
            folder = Path(base.absolute(as_text(project))) if project else other.parent
            result = canonical.merged(result, self.read(other, base.at(folder)))
        self._including.pop()
        return result


def _with_path(entry: Any, base: Base) -> Any:
    if isinstance(entry, dict) and isinstance(entry.get("file"), str):
        return {**entry, "file": base.absolute(entry["file"])}
    return entry

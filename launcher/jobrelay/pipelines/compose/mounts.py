"""Volumes, bind mounts, secrets and configs of a stage: folders of the workspace at absolute paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jobrelay.pipelines.compose.model import Project, Service
from jobrelay.pipelines.compose.volumes import is_windows_path

#: Of the host itself: useless in a Pod, and harmless to leave out.
_IGNORED: Final = (
    "/etc/localtime", "/etc/timezone", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/resolv.conf",
    "/tmp/.X11-unix", "/dev/shm",  # noqa: S108
)  # fmt: skip
_REFUSED: Final = (
    "/", "/dev", "/proc", "/sys", "/run", "/var/run", "/var/lib/docker", "/etc", "/usr", "/lib/modules"
)  # fmt: skip
#: Where people keep their files. What is absent there is of another machine; an empty folder is no help.
_HOMES: Final = ("Users", "home", "mnt", "media", "Volumes")


@dataclass
class Mounted:
    """mounts: path in the container to folder of the workspace. seeded: those that start with the image's
    files. files: folder of the workspace to what is copied there."""

    mounts: dict[str, str] = field(default_factory=dict)
    seeded: list[str] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)


def sources(services: Iterable[Service], project: Project) -> list[Path]:
    """Every folder and file of this machine that the services mount."""
    found = []
    for service in services:
        for mount in service.table("volumes").values():
            source = _local(mount, project)
            if source and not is_windows_path(source):
                found.append(Path(source))
    return found


def of_service(service: Service, project: Project, places: Places) -> Mounted:
    """What a stage finds mounted, parents first. Raises BadInput, naming service and source."""
    result = Mounted()
    for target, mount in service.table("volumes").items():
        if mount["type"] == "tmpfs":
            project.notes.ignore("tmpfs: the container's own files take its place", service.name)
        elif source := _local(mount, project):
            _bind(source, mount, target, service, project, places, result)
        elif mount["type"] == "volume":
            _volume(mount, target, service, project, places, result)
        else:
            raise service.refuse("volumes", f"type {mount['type']} is not supported")
        if mount["read_only"] and target in result.mounts:
            project.notes.ignore("read-only mounts: the files are the run's own copy", service.name)
    for kind in ("secrets", "configs"):
        for entry in service.items(kind):
            _file(kind, entry, service, project, result)
    result.mounts = dict(sorted(result.mounts.items(), key=lambda item: (item[0].count("/"), item[0])))
    return result


def _local(mount: dict[str, Any], project: Project) -> str | None:
    """The path of this machine that a mount shows, also through a volume whose driver binds one."""
    if mount["type"] == "bind":
        return str(mount["source"])
    options = _driver_options(project.volumes.get(mount["source"] or ""))
    flags = str(options.get("o", "")).split(",")
    if mount["type"] == "volume" and options.get("device") and ("bind" in flags or "rbind" in flags):
        device = str(options["device"])
        return device if is_windows_path(device) else str(Path(project.folder / device))
    return None


def _driver_options(volume: Any) -> dict[str, Any]:
    options = volume.get("driver_opts") if isinstance(volume, dict) else None
    return options if isinstance(options, dict) else {}


def _bind(
    source: str, mount: dict[str, Any], target: str, service: Service, project: Project, places: Places,
    result: Mounted,
) -> None:  # fmt: skip
    if source in _IGNORED:
        project.notes.ignore(f"the mount of {source}, which is of the host", service.name)
        return
    if source.endswith("docker.sock"):
        raise service.refuse("volumes", f"{source}: a stage has no container engine")
    if source in _REFUSED or source.startswith(("/dev/", "/proc/", "/sys/")):
        raise service.refuse("volumes", f"{source}: a stage sees nothing of its host")
    path = Path(source)
    if is_windows_path(source) or (not path.exists() and _of_another_machine(path)):
        raise service.refuse(
            "volumes",
            f"{source}: this path does not exist here, it is of another machine",
            "put your own path there",
        )
    place = places.of(path)
    if mount["subpath"]:
        place = f"{place}/{mount['subpath']}"
    if path.exists():
        result.files[place] = path
        if place.startswith("outside/"):
            project.notes.add(f"{source}, outside the project, is copied to {place} of the workspace")
    else:
        kind = " (a folder, as Docker makes)" if re.search(r".\.\w+$", path.name) else ""
        project.notes.add(f"{_shown(path, project)} does not exist: it starts empty{kind}")
    # A mount of data/NAME is data of the volume; the project's own folder of that name is written otherwise.
    result.mounts[target] = f"./{place}" if place.startswith("data/") else place


def _of_another_machine(path: Path) -> bool:
    top = path.parts[1:2]
    return bool(top) and top[0] in _HOMES and not Path(*path.parts[:3]).exists()


def _shown(path: Path, project: Project) -> str:
    return str(path.relative_to(project.folder)) if project.folder in path.parents else str(path)


def _volume(
    mount: dict[str, Any], target: str, service: Service, project: Project, places: Places, result: Mounted
) -> None:
    name = mount["source"]
    if name is None:  # anonymous: each container has its own
        place = places.volume(f"{service.name}{re.sub(r'[^A-Za-z0-9.-]+', '-', target)}")
    elif name not in project.volumes:
        raise service.refuse(
            "volumes", f"the volume {name} is not declared",
            f"add it to volumes: at the end of the file, or write ./{name} for a folder",
        )  # fmt: skip
    else:
        declared = project.volumes[name] or {}
        kind = _driver_options(declared).get("type")
        if (driver := declared.get("driver")) not in (None, "local", "") or kind in ("nfs", "nfs4", "cifs"):
            raise service.refuse("volumes", f"the volume {name} has the driver {kind or driver}")
        if declared.get("external"):
            project.notes.add(
                f"volume {name} is external: it starts empty, what Docker keeps in it is not read"
            )
        place = places.volume(name)
    result.mounts[target] = f"{place}/{mount['subpath']}" if mount["subpath"] else place
    if not mount["nocopy"] and not mount["subpath"]:
        result.seeded.append(target)


def _file(kind: str, entry: dict[str, Any], service: Service, project: Project, result: Mounted) -> None:
    name = entry["source"]
    declared = getattr(project, kind).get(name)
    if declared is None:
        raise service.refuse(kind, f"{name} is not declared")
    path = declared.get("file") if isinstance(declared, dict) else None
    if not path or not Path(path).is_file():
        why = f"its file {path} does not exist" if path else "only those from a file are supported"
        raise service.refuse(kind, f"{name}: {why}", "give a variable in the environment, or mount a file")
    default = f"/run/secrets/{name}" if kind == "secrets" else f"/{name}"
    target = str(entry.get("target") or default)
    if not target.startswith("/"):
        target = f"/run/secrets/{target}" if kind == "secrets" else f"/{target}"
    result.files[f"{kind}/{name}"] = Path(path)
    result.mounts[target] = f"{kind}/{name}"
    if kind == "secrets":
        project.notes.add(f"secret {name}: the file lies on the volume, where every run can read it")


class Places:
    """One folder of the workspace for each folder of this machine, nested as the folders are.

    A path in the project keeps its relative path. One outside becomes `outside/NAME`; what lies in a folder
    that is mounted too lies in that one, so that both see the same files.
    """

    def __init__(self, project: Path, sources: Iterable[Path]) -> None:
        self._project = project
        self._roots: dict[Path, str] = {}
        for source in sorted(set(sources), key=lambda path: (len(path.parts), str(path))):
            if not _inside(source, project) and not self._below(source):
                self._roots[source] = self._new(source.name or "root")

    def of(self, source: Path) -> str:
        """The folder, "." for the workspace itself."""
        if found := self._below(source):
            return found
        return os.path.relpath(source, self._project)

    def volume(self, name: str) -> str:
        """The folder of a named volume. Not below `volumes` if a bind mount of the project lies there."""
        taken = (self._project / "volumes" / name).exists()
        return f"volumes/{name}-volume" if taken else f"volumes/{name}"

    def _below(self, source: Path) -> str | None:
        for root, place in self._roots.items():
            if _inside(source, root):
                return os.path.normpath(Path(place) / source.relative_to(root))
        return None

    def _new(self, name: str) -> str:
        place, count = f"outside/{name}", 1
        while place in self._roots.values():
            count += 1
            place = f"outside/{name}-{count}"
        return place


def _inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents

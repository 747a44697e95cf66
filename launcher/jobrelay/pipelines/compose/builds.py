"""The image of a stage: built here, or named."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose.model import Project, Service
from jobrelay.pipelines.compose.text.yamlfile import as_text
from jobrelay.pipelines.definition import Build

#: They change how fast an image is built, or how it is labelled, not what it holds.
_IGNORED: Final = (
    "cache_from", "cache_to", "extra_hosts", "isolation", "labels", "network", "no_cache", "platforms",
    "provenance", "pull", "sbom", "shm_size", "tags", "ulimits",
)  # fmt: skip
_HONOURED: Final = ("context", "dockerfile", "target", "args")


def image_of(service: Service, project: Project) -> str:
    """The name of the image. Raises BadInput if the service has neither an image nor a build."""
    if image := as_text(service.get("image")):
        return image
    if service.get("build"):
        return f"{project.name}-{service.name.lower()}:jobrelay"
    raise service.refuse(
        "image",
        "it has neither an image nor a build",
        "a file that only changes another comes after it",
    )


def build_of(service: Service, project: Project) -> Build | None:
    """How its image is built: its own way, or that of a service with the same image. Raises BadInput."""
    if service.get("build"):
        return _build(service, project)
    image = service.get("image")
    others = (*project.services.values(), *project.inactive.values())
    builders = [other for other in others if image and other.get("image") == image and other.get("build")]
    return _build(builders[0], project) if builders else None


def images(project: Project) -> dict[str, tuple[Service, Build]]:
    """Names of images that the file builds, with the services that build them. Broken builds are left out."""
    found: dict[str, tuple[Service, Build]] = {}
    for service in (*project.services.values(), *project.inactive.values()):
        if service.get("build") and service.get("image"):
            with contextlib.suppress(BadInput):  # it matters, and is reported, where a stage needs the image
                found.setdefault(image_of(service, project), (service, _build(service, project)))
    return found


def check(service: Service, project: Project) -> None:
    """Note the keys of `build` that are ignored. Raises BadInput for those that cannot be honoured."""
    for key, value in service.table("build").items():
        if key.startswith("x-") or value in (None, False, [], {}):
            continue
        if key in _IGNORED:
            project.notes.ignore(f"build.{key}", service.name)
        elif key not in _HONOURED:
            raise service.refuse(
                f"build.{key}", "not supported", "build the image yourself, and name it with image:"
            )


def _build(service: Service, project: Project) -> Build:
    build = service.table("build")
    context = Path(build.get("context") or project.folder)
    if not context.is_dir():
        raise service.refuse("build", f"the context {context} is not a directory")
    arguments = {
        name: as_text(value if value is not None else project.values[name])
        for name, value in (build.get("args") or {}).items()
        if value is not None or name in project.values
    }
    target = as_text(build.get("target")) or None
    return Build(
        context, _dockerfile(service, context, as_text(build.get("dockerfile")), project), target, arguments
    )


def _dockerfile(service: Service, context: Path, name: str, project: Project) -> Path:
    """Docker accepts `dockerfile` for the default name; macOS accepts any case in any name."""
    path = context / (name or "Dockerfile")
    if path.is_file():
        return path
    if path.parent.is_dir():
        for other in sorted(path.parent.iterdir()):
            if other.name.lower() == path.name.lower() and other.is_file():
                if other.name != path.name.lower():
                    project.notes.add(f"{service.name}: {other.name} is taken for {path.name}")
                return other
    beside = project.folder / (name or "Dockerfile")
    hint = "the path of a Dockerfile starts at the context"
    if beside.is_file():
        hint += f"; {beside} exists"
    raise service.refuse("build", f"there is no {path}", hint)

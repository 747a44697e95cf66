"""A compose file as a pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose import (
    builds,
    commands,
    keys,
    loading,
    mounts,
    resources,
    selection,
)
from jobrelay.pipelines.compose.dockerfile import image as dockerfile
from jobrelay.pipelines.compose.dockerfile.image import ImageConfig
from jobrelay.pipelines.compose.model import Project, Service
from jobrelay.pipelines.compose.mounts import Mounted, Places
from jobrelay.pipelines.compose.order import order
from jobrelay.pipelines.compose.text import env
from jobrelay.pipelines.compose.text.yamlfile import as_text
from jobrelay.pipelines.definition import Build, Pipeline, StageDefinition


def read(
    file: Path,
    *,
    overrides: Sequence[Path] = (),
    services: Sequence[str] = (),
    profiles: Sequence[str] = (),
    environment: Mapping[str, str],
) -> Pipeline:
    """The services of a compose file that end, as stages, with Docker's meaning of every key.

    overrides: further files, merged over it in this order (`-f A -f B`). services: exactly these, also those
    that would be left out as servers. profiles: see COMPOSE_PROFILES. environment: what `${VAR}` stands for,
    before the file .env. Raises BadInput, naming file, service and key, for what Docker rejects and for what
    cannot be honoured.
    """
    project = loading.load(file, overrides, services, profiles, environment)
    chosen = selection.choose(project, services)
    for service in chosen:
        keys.check(service, project.notes)
        builds.check(service, project)
    stages = _in_order(chosen, project)
    places = Places(project.folder, mounts.sources(chosen, project))
    mounted = {name: mounts.of_service(service, project, places) for name, service in stages.items()}
    built = {name: build for name, service in stages.items() if (build := builds.build_of(service, project))}
    users = {name: user for name, service in stages.items() if (user := _user(service, project))}
    images = builds.images(project)
    definitions, arguments = {}, []
    for name, service in stages.items():
        image = _image(service, built.get(name), images, chosen, project)
        definitions[name], are_arguments = _stage(service, project, mounted[name], image)
        if are_arguments:
            arguments.append(name)
    files = {place: path for stage in mounted.values() for place, path in stage.files.items()}
    return Pipeline(
        source=str(file),
        stages=definitions,
        image=next(iter(definitions.values())).image or "",
        security="image",
        files=dict(sorted(files.items(), key=lambda item: (len(Path(item[0]).parts), item[0]))),
        seeded={name: tuple(stage.seeded) for name, stage in mounted.items() if stage.seeded},
        users=users,
        builds=built,
        arguments=tuple(arguments),
        notes=project.notes.all(),
    )


def _in_order(chosen: Sequence[Service], project: Project) -> dict[str, Service]:
    """The services by the names of their stages, in the order in which they run; a note says why."""
    names = _stage_names(chosen, project)
    needs = {
        name: [names[need] for need in _needs(service, project, names)]
        for service in chosen
        if (name := names[service.name])
    }
    ordered, why = order([names[service.name] for service in chosen], needs, str(project.file))
    project.notes.add(f"order: {', '.join(ordered)} ({why})")
    by_stage = {names[service.name]: service for service in chosen}
    return {name: by_stage[name] for name in ordered}


def _needs(service: Service, project: Project, chosen: Mapping[str, str]) -> list[str]:
    """The stages before this one, also through services that are not run."""
    found: dict[str, None] = {}
    seen, waiting = {service.name}, list(selection.dependencies(service, project))
    while waiting:
        name = waiting.pop(0)
        if name in chosen:
            found[name] = None
        elif name not in seen:
            waiting += selection.dependencies(project.services[name], project)
        seen.add(name)
    return list(found)


def _stage_names(chosen: Sequence[Service], project: Project) -> dict[str, str]:
    """Service to stage: a DNS label, since Jobs carry it in their names."""
    names: dict[str, str] = {}
    for service in chosen:
        name = re.sub(r"[^a-z0-9]+", "-", service.name.lower()).strip("-")
        if not name or len(name) > 63:
            raise service.refuse("name", "a stage's name needs a letter or digit, and at most 63 characters")
        if other := next((known for known, stage in names.items() if stage == name), None):
            raise service.refuse(
                "name", f"as a stage it is called {name}, like the service {other}", "rename one"
            )
        names[service.name] = name
        if name != service.name:
            project.notes.add(f"service {service.name} is the stage {name}")
    return names


def _stage(
    service: Service, project: Project, mounted: Mounted, image: ImageConfig | None
) -> tuple[StageDefinition, bool]:
    """The definition, and whether what it runs are arguments of the image's entrypoint."""
    run, are_arguments = commands.of_service(service, image)
    workdir = as_text(service.get("working_dir"))
    if workdir and not workdir.startswith("/"):
        raise service.refuse("working_dir", f"{workdir} must be an absolute path in the container")
    try:
        stage = StageDefinition(
            run=run,
            image=builds.image_of(service, project),
            workdir=workdir or (image.workdir if image else None),
            env=dict(env.of_service(service, project)),
            mounts=mounted.mounts,
            security="image",
            **resources.of_service(service, project.notes),
        )
    except ValueError as error:  # pydantic's
        raise BadInput(f"{project.file}: service {service.name}: {error}") from error
    return stage, are_arguments


def _image(
    service: Service,
    build: Build | None,
    images: Mapping[str, tuple[Service, Build]],
    chosen: Sequence[Service],
    project: Project,
) -> ImageConfig | None:
    """What the Dockerfile says; None for an image that is not built here."""
    if build is None:
        return None
    config = dockerfile.read(build, files=False, images={name: other for name, (_, other) in images.items()})
    for name in config.through:
        builder = images[name][0]
        if builder not in chosen:
            project.notes.add(
                f"{service.name}: its image starts from {name}: build that first (the service {builder.name})"
            )
    return config


def _user(service: Service, project: Project) -> str:
    """UID or UID:GID; empty: the image's own."""
    text = as_text(service.get("user")).strip()
    if re.fullmatch(r"\d+(:\d+)?", text):
        return text
    if text in ("root", "root:root"):
        return "0"
    if not text.strip(":"):  # "${UID}:${GID}", neither of them exported
        if text:
            project.notes.add(f"{service.name}: user has no value: the image's own")
        return ""
    raise service.refuse("user", f"{text} is not UID or UID:GID", "write the numbers: `id -u` in the image")

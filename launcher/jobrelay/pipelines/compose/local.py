"""A pipeline with images, for a machine without them: what the Dockerfiles copy takes their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose.images import images_of, with_commands
from jobrelay.pipelines.definition import Pipeline, StageDefinition

#: Variables of an image that mean nothing outside it.
_OF_IMAGES = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "HOME")


def as_local(pipeline: Pipeline) -> Pipeline:
    """The pipeline with the files, commands and folders that its images would give.

    The files of an image lie in the workspace, in images/STAGE, and are mounted where the image has them. A
    named volume starts with the files of the first stage that mounts it. Raises BadInput for a command that
    only an image knows.
    """
    pipeline, images = with_commands(pipeline), images_of(pipeline)
    stages: dict[str, StageDefinition] = {}
    files = dict(pipeline.files)
    for name, stage in pipeline.stages.items():
        if stage.run is None:
            raise BadInput(
                f"{pipeline.source}: service {name}: only its image {stage.image} knows its command",
                "give the service a command, or run it on a cluster",
            )
        image = images[name]
        copies = {target: source for source, target in image.copies}
        for path in pipeline.seeded.get(name, ()):
            place = stage.mounts[path].removeprefix("./")
            if not any(known == place or known.startswith(f"{place}/") for known in files):
                files |= {f"{place}{t.removeprefix(path)}": s for t, s in copies.items() if _is_in(t, path)}
        own = f"images/{name}"
        files |= {f"{own}{target}": source for target, source in copies.items()}
        workdir = stage.workdir or image.working_directory
        made = {*image.folders, *([workdir] if workdir.startswith("/") else [])}
        mounts = {path: f"{own}{path}" for path in _mount_points(copies, made)}
        env = {key: value for key, value in image.env.items() if key not in _OF_IMAGES}
        stages[name] = stage.model_copy(
            update={
                "workdir": workdir,
                "env": {**env, **stage.env},
                "mounts": {**mounts, **stage.mounts},
                "image": None,
            }
        )
    plain = replace(pipeline, image="", seeded={}, users={}, builds={}, arguments=())
    return replace(plain, stages=stages, files=files)


def _mount_points(copies: Mapping[str, Path], made: Iterable[str]) -> list[str]:
    """What to mount so that all files of an image are where it has them.

    A folder that this machine does not have is mounted as a whole; of others, such as /usr/local/bin, only
    the entries.
    """
    points: set[str] = set()
    for target, source in copies.items():
        folder = target if source.is_dir() else str(PurePosixPath(target).parent)
        points.add(folder if not Path(folder).exists() else target)
    points |= {folder for folder in made if not Path(folder).exists()}
    return sorted(p for p in points if not any(_is_in(p, other) for other in points if other != p))


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")

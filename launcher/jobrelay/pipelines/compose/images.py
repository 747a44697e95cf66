"""What the Dockerfiles of a pipeline tell about its images: the commands of stages that name none."""

from __future__ import annotations

from dataclasses import replace

from jobrelay.pipelines.compose.dockerfile.image import ImageConfig, read
from jobrelay.pipelines.definition import Pipeline


def images_of(pipeline: Pipeline) -> dict[str, ImageConfig]:
    """The image of each stage, as its Dockerfile makes it; empty for an image that is not built here."""
    builds = {pipeline.stages[name].image or "": build for name, build in pipeline.builds.items()}
    return {
        name: read(pipeline.builds[name], images=builds) if name in pipeline.builds else ImageConfig(base="")
        for name in pipeline.stages
    }


def with_commands(pipeline: Pipeline) -> Pipeline:
    """The pipeline with the entrypoint and command of its Dockerfiles, where a stage has none of its own."""
    stages = dict(pipeline.stages)
    for name, image in images_of(pipeline).items():
        words = (*(image.entrypoint or ()), *(image.command or ()))
        if stages[name].run is None and words:
            stages[name] = stages[name].model_copy(update={"run": words})
    return replace(pipeline, stages=stages)

"""The images of a pipeline: built, brought to the cluster, and asked for what they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jobrelay.errors import BadInput
from jobrelay.hints import SameAgain
from jobrelay.images.engine import Engine, engine_that_works, engine_with
from jobrelay.images.loading import load_into_kind
from jobrelay.pipelines.definition import Pipeline

_KIND = "kind-"


def provide_images(
    pipeline: Pipeline, context: str | None, registry: str | None, say: Callable[[str], None]
) -> Pipeline:
    """Build the images of a pipeline and bring them to the cluster; return the pipeline with their names.

    context: of the kubeconfig; kind-NAME is loaded by kind. registry: images are pushed to REGISTRY/NAME
    instead. Raises BadInput, ToolFailed.
    """
    stages = dict(pipeline.stages)
    names: dict[str, str] = {}
    for name, build in pipeline.builds.items():
        image = stages[name].image or ""
        if image not in names:
            engine = engine_that_works(None)
            pairs = [f"{key}={value}" for key, value in build.arguments.items()]
            options = [word for pair in pairs for word in ("--build-arg", pair)]
            target = ["--target", build.target] if build.target else []
            say(f"building {image} from {build.dockerfile} with {engine.name}")
            engine.build(image, build.dockerfile, build.context, [*options, *target], say)
            names[image] = _brought(engine, image, context, registry, say)
        stages[name] = stages[name].model_copy(update={"image": names[image]})
    return replace(pipeline, stages=stages)


def with_image_commands(pipeline: Pipeline) -> Pipeline:
    """The pipeline with the commands that only its images know, asked of the engine that has them.

    Raises BadInput for an image that is not here.
    """
    stages = dict(pipeline.stages)
    for name, stage in pipeline.stages.items():
        if stage.run is not None and name not in pipeline.arguments:
            continue
        image = stage.image or pipeline.image
        try:
            entrypoint, command = engine_with(image).command(image)
        except BadInput as error:
            raise BadInput(
                f"stage {name}: the command of image {image} is not known: {error.what}",
                f"write it into {pipeline.source}, or pull the image: docker pull {image}",
            ) from error
        own = stage.run if stage.run is not None else command
        words = (*entrypoint, *([own] if isinstance(own, str) else own))
        stages[name] = stage.model_copy(update={"run": words})
    return replace(pipeline, stages=stages, arguments=())


def _brought(
    engine: Engine, image: str, context: str | None, registry: str | None, say: Callable[[str], None]
) -> str:
    """Bring an image to where the nodes find it; return its name there."""
    if registry:
        reference = f"{registry.rstrip('/')}/{image.rpartition('/')[2]}"
        digest = engine.push(image, reference, say)
        return f"{reference.rpartition(':')[0]}@{digest}"
    if context and context.startswith(_KIND):
        say(f"loading {image} into {context}")
        load_into_kind(engine, image, context.removeprefix(_KIND))
        return image
    raise BadInput(
        f"the nodes of context {context} cannot have {image}, which was built here",
        SameAgain("--registry", "REGISTRY"),
    )

"""What your own stages need before they run: their data, and their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jobrelay.errors import BadInput

if TYPE_CHECKING:
    from jobrelay.console import Console
    from jobrelay.flags import ConfigFlags, RunFlags, SweepFlags
    from jobrelay.runs.target import Target


def with_folders(target: Target, flags: ConfigFlags) -> Target:
    """The target with the folders of code and data that the flags name. Raises BadInput."""
    return with_data(replace(target, code=flags.code), flags.data)


def with_data(target: Target, data: Sequence[str]) -> Target:
    if not data:
        return target
    from jobrelay.pipelines import reading

    if target.pipeline is None:
        raise BadInput(
            "--data is for stages of your own", "put DIR NAME copies data for the built-in programs"
        )
    return replace(target, pipeline=reading.with_data(target.pipeline, data))


def with_images(target: Target, flags: RunFlags | SweepFlags, console: Console) -> Target:
    """The target with the images that its pipeline builds, and the commands that its images know."""
    pipeline = target.pipeline
    if pipeline is None or target.local:
        return target
    from jobrelay.images.stages import provide_images, with_image_commands

    if pipeline.builds and not flags.no_build and not flags.dry_run:
        context = target.context or target.executor().place().split(",")[0].removeprefix("context ")
        pipeline = provide_images(pipeline, context, flags.registry, console.say)
    return replace(target, pipeline=with_image_commands(pipeline))

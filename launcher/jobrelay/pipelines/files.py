"""A file with stages of your own: a jobrelay.yaml or a compose file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from jobrelay.pipelines import compose, reading
from jobrelay.pipelines.definition import Pipeline


def read_pipeline(
    file: Path, say: Callable[[str], None], *, local: bool, services: Sequence[str] = ()
) -> Pipeline:
    """The pipeline in a file, for this machine or for a cluster. Raises BadInput.

    say: gets what the reader of a compose file wants people to know. services: of a compose file, the ones
    that are stages; none: those that end.
    """
    if not compose.is_compose(file):
        return reading.read(file)
    pipeline = compose.read(file, services=services, environment=os.environ)
    pipeline = replace(pipeline, is_compose=True)
    for note in pipeline.notes:
        say(note)
    return compose.as_local(pipeline) if local else compose.with_commands(pipeline)

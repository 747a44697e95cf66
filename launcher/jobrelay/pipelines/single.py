"""One command on the files of a folder: `run -- python main.py`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from jobrelay.pipelines.definition import Pipeline, StageDefinition

#: Words of a command that say nothing about what it does.
_STARTERS = re.compile(r"python[0-9.]*|sh|bash|env|uv|torchrun|accelerate|exec|run|launch")


def pipeline_of_command(words: Sequence[str], folder: Path, given: Pipeline | None = None) -> Pipeline:
    """The pipeline of one stage that runs the command in a snapshot of `folder`.

    given: a pipeline of the same folder, whose image, data and the like hold for the command, too.
    """
    stages = {stage_name(words): StageDefinition(run=tuple(words))}
    if given is None:
        return Pipeline(source=f"the command `{words[0]} …`", stages=stages, image="", files={".": folder})
    from dataclasses import replace

    return replace(given, stages=stages)


def stage_name(words: Sequence[str]) -> str:
    """A name for the stage: of the first word that names a program, main.py → main."""
    for word in words:
        stem = PurePath(word).name.partition(".")[0].lower()
        name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:22].rstrip("-")
        if name and name != "report" and not word.startswith("-") and not _STARTERS.fullmatch(stem):
            return name
    return "command"

"""The configuration of a pipeline of any programs, in the form that the rendering of a run expects."""

from __future__ import annotations

import functools
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from jobrelay.errors import BadInput
from jobrelay.kube.objects import EnvVar, Job
from jobrelay.kube.read import main_container
from jobrelay.pipelines.code import Snapshot, snapshot
from jobrelay.pipelines.definition import Pipeline, StageDefinition
from jobrelay.pipelines.git import git_state
from jobrelay.pipelines.jobs import command_of
from jobrelay.pipelines.parameters import fill, shown
from jobrelay_runner.command.specification import (
    CODE_FILE,
    PIPELINE_FILE,
    REQUIREMENTS_FILE,
    Specification,
    StageSpecification,
)
from jobrelay_runner.stages import Stage
from jobrelay_train.config.placement import Placement
from jobrelay_train.config.schema import tree_hash

#: A ConfigMap has at most 1 MiB, in base64.
MOST_CODE: Final = 700 * 1024
#: Where and how long a stage runs: not part of what decides its result.
PLACEMENT: Final = frozenset(
    {"cpu", "memory", "shm", "gpu_type", "retries", "grace_seconds", "timeout_seconds", "queue"}
)


@dataclass(frozen=True)
class ProgramConfig:
    """What a pipeline's stages run, with its parameters filled in. See manifests.PipelineConfig."""

    pipeline: Pipeline

    @functools.cached_property
    def code(self) -> Snapshot | None:
        """The snapshot of the code. Raises BadInput."""
        return snapshot(self.pipeline.files) if self.pipeline.files else None

    @functools.cached_property
    def requirements(self) -> str:
        """The text of the requirements file; empty if there is none. Raises BadInput."""
        path = self.pipeline.requirements
        try:
            return path.read_text(encoding="utf-8") if path else ""
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} cannot be read: {error}") from error

    @functools.cached_property
    def _commit(self) -> Mapping[str, str]:
        return git_state(self.pipeline.files.get("."))

    def with_params(self, values: Mapping[str, Any]) -> ProgramConfig:
        """The same stages and the same snapshot of the code, with other values of some parameters."""
        other = ProgramConfig(replace(self.pipeline, params={**self.pipeline.params, **values}))
        vars(other).update(code=self.code, requirements=self.requirements, _commit=self._commit)
        return other

    def command(self, stage: Stage) -> list[str]:
        """The words of a stage's command. Raises BadInput for an unknown parameter."""
        definition = self._stage(stage)
        if definition.run is None:
            raise BadInput(f"stage {stage}: the command of its image is not known", f"set stages.{stage}.run")
        run = definition.run
        where = f"stages.{stage}.run"
        if isinstance(run, str):
            return command_of(fill(run, self.pipeline.params, where))
        return [fill(word, self.pipeline.params, where) for word in run]

    def environment(self, stage: Stage) -> dict[str, str]:
        """The variables of a stage, without secrets. Raises BadInput for an unknown parameter."""
        where = f"stages.{stage}.env"
        return {
            name: fill(value, self.pipeline.params, f"{where}.{name}")
            for name, value in self._stage(stage).env.items()
        }

    def fill(self, stage: Stage, job: Job) -> None:
        """Put the stage's command and variables into its Job."""
        main = main_container(job)
        main["args"] = [*main["args"], *(_escaped(word) for word in self.command(stage))]
        given = self.environment(stage)
        others = [variable for variable in main["env"] if variable["name"] not in given]
        own: list[EnvVar] = [{"name": name, "value": _escaped(text)} for name, text in given.items()]
        main["env"] = [*others, *own]

    def decides(self, stage: Stage) -> dict[str, Any]:
        """What decides the result: command, variables, image and the like of this and every earlier stage."""
        order = list(self.pipeline.stages)
        return {
            "code": self.code.without(self._scripts_of_others(stage)) if self.code else None,
            "data": sorted(self.pipeline.data),
            "requirements": self.requirements,
            "stages": {each: self._own(each) for each in order[: order.index(stage) + 1]},
        }

    def _scripts_of_others(self, stage: Stage) -> set[str]:
        """Files that only later stages name in their commands: a change there leaves this one's result.

        A Python script that another file imports, or names, counts for all.
        """
        assert self.code
        order = list(self.pipeline.stages)
        upto = order[: order.index(stage) + 1]
        mine = {name for each in upto for name in self._named(each)}
        others = {name for each in order for name in self._named(each)} - mine
        return {name for name in others if not self.code.uses(name)}

    def _named(self, stage: Stage) -> set[str]:
        """The files of the code that a stage's command names."""
        assert self.code
        words = re.split(r"[\s'\"=;&|]+", " ".join(self.command(stage)))
        workdir = (self._stage(stage).workdir or ".").rstrip("/")
        paths = {posixpath.normpath(posixpath.join(workdir, word)) for word in words if word}
        return paths & self.code.files.keys()

    def _own(self, stage: Stage) -> dict[str, Any]:
        definition = self._stage(stage)
        own = definition.model_dump(
            mode="json", exclude=set(PLACEMENT) | {"run", "env"}, exclude_defaults=True
        )
        own |= {"run": self.command(stage), "env": self.environment(stage)}
        return own | {"image": definition.image or self.pipeline.image or None}

    def config_files(self) -> Mapping[str, str | bytes]:
        """pipeline.json for the runner, and the code, unless it is too large for a ConfigMap."""
        files: dict[str, str | bytes] = {PIPELINE_FILE: self.specification().to_json(indent=2) + "\n"}
        if self.code and len(self.code.archive) <= MOST_CODE:
            files[CODE_FILE] = self.code.archive
        if self.pipeline.requirements:
            files[REQUIREMENTS_FILE] = self.requirements
        return files

    def specification(self) -> Specification:
        """What the runner needs to know. Raises BadInput for an unknown parameter."""
        return Specification(
            pipeline=list(self.pipeline.stages),
            stages={name: self._specification(name) for name in self.pipeline.stages},
            code=self.code.digest if self.code else None,
        )

    def uploads(self) -> Mapping[str, bytes]:
        """Files for the volume: code that is too large for a ConfigMap, as code/HASH/code.tar.gz."""
        if self.code and len(self.code.archive) > MOST_CODE:
            return {f"code/{self.code.digest}/{CODE_FILE}": self.code.archive}
        return {}

    def _specification(self, name: Stage) -> StageSpecification:
        stage = self._stage(name)
        data = [folder.split("/") for folder in stage.mounts.values() if folder.startswith("data/")]
        where = f"stages.{name}.metrics"
        return StageSpecification(
            hash=tree_hash(self.decides(name)),
            workdir=stage.workdir,
            metrics=fill(stage.metrics, self.pipeline.params, where) if stage.metrics else None,
            on_timeout=stage.on_timeout,
            timeout_seconds=stage.timeout_seconds if stage.on_timeout == "succeed" else None,
            nodes=stage.nodes,
            processes=stage.processes,
            image=stage.image or self.pipeline.image,
            has_requirements=self.pipeline.requirements is not None,
            folders=sorted({"/".join(parts[:2]) for parts in data}),
            links={
                posixpath.normpath(posixpath.join(stage.workdir or ".", path)): folder.removeprefix("./")
                for path, folder in stage.mounts.items()
                if not path.startswith("/")
            },
            means=self._means(name),
        )

    def _means(self, name: Stage) -> dict[str, str]:
        """What the record shows of how the stage was started."""
        means = {f"params.{key}": shown(value) for key, value in self.pipeline.params.items()}
        means["command"] = _as_typed(self.command(name))
        if image := self._stage(name).image or self.pipeline.image:
            means["image"] = image
        if self.code:
            means["code"] = self.code.digest
        return {**means, **self._commit}

    def placement(self, stage: Stage) -> Placement:
        definition = self._stage(stage)
        own = definition.timeout_seconds if definition.on_timeout == "fail" else None
        return Placement(timeout_seconds=own)

    def pods(self, stage: Stage) -> int:
        return self._stage(stage).nodes

    def on_the_volume(self, stages: Iterable[Stage]) -> list[str]:
        return [f"data/{name}" for name in self.pipeline.data]

    def reads_the_volume(self) -> bool:
        return bool(self.pipeline.data)

    def identity(self) -> str:
        """The names of the stages: everything else may change under one run."""
        return tree_hash(list(self.pipeline.stages))

    def _stage(self, stage: Stage) -> StageDefinition:
        return self.pipeline.stages[stage]


def _as_typed(command: list[str]) -> str:
    """A command in one line; of a shell, what it executes."""
    return command[2] if command[:2] == ["sh", "-c"] and len(command) == 3 else shlex.join(command)


def _escaped(text: str) -> str:
    """Text for a Job's args and env, where Kubernetes replaces $(NAME)."""
    return text.replace("$(", "$$(")

"""Several runs of one pipeline, which differ in their parameters alone, as the Jobs of one: a pack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobrelay.kube.objects import Job
from jobrelay.kube.read import main_container
from jobrelay.pipelines.config import ProgramConfig
from jobrelay.pipelines.definition import Pipeline
from jobrelay_runner.command.pack import PACK_FILE, Pack, PackedRun, PackedStage
from jobrelay_runner.stages import Stage
from jobrelay_train.config.placement import Placement
from jobrelay_train.config.schema import tree_hash


def why_not_packed(pipeline: Pipeline) -> str:
    """Why the runs of a pipeline cannot share a container; "" if they can."""
    for name, stage in pipeline.stages.items():
        if any(folder.partition("/")[0] != "data" for folder in stage.mounts.values()):
            return f"stage {name} mounts a folder of its run"
        if stage.nodes > 1:
            return f"stage {name} has several Pods"
        if stage.timeout_seconds:
            return f"stage {name} has a time limit"
        if stage.run is None or stage.workdir is None:
            return f"stage {name} runs what its image says"
    return "a mount starts with files of its image" if pipeline.seeded else ""


@dataclass(frozen=True)
class PackConfig:
    """The configurations of several runs, by run id. See manifests.PipelineConfig."""

    runs: Mapping[str, ProgramConfig]

    @property
    def _first(self) -> ProgramConfig:
        return next(iter(self.runs.values()))

    def decides(self, stage: Stage) -> dict[str, Any]:
        return {"pack": {run: tree_hash(config.decides(stage)) for run, config in self.runs.items()}}

    def fill(self, stage: Stage, job: Job) -> None:
        main_container(job)["args"] = ["pack", stage]

    def config_files(self) -> Mapping[str, str | bytes]:
        pack = Pack([self._packed(run, config) for run, config in self.runs.items()])
        return {**self._first.config_files(), PACK_FILE: pack.to_bytes()}

    def _packed(self, run: str, config: ProgramConfig) -> PackedRun:
        stages = {
            name: PackedStage(config.command(name), config.environment(name), stage.retries)
            for name, stage in config.pipeline.stages.items()
        }
        return PackedRun(run, config.specification(), stages)

    def uploads(self) -> Mapping[str, bytes]:
        return self._first.uploads()

    def placement(self, stage: Stage) -> Placement:
        return self._first.placement(stage)

    def pods(self, stage: Stage) -> int:
        return 1

    def on_the_volume(self, stages: Iterable[Stage]) -> list[str]:
        return self._first.on_the_volume(stages)

    def reads_the_volume(self) -> bool:
        return False  # each run's own record tells whether its data has changed

    def identity(self) -> str:
        return self._first.identity()

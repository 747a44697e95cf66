"""What decides the results of a run's stages, besides their Jobs' specs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from jobrelay.kube.objects import Job
from jobrelay_runner.stages import Stage
from jobrelay_train.config.placement import Placement


class PipelineConfig(Protocol):
    """The configuration of a run: of the built-in programs (RunConfig), or of any others."""

    def decides(self, stage: Stage) -> dict[str, Any]:
        """Return, as a JSON tree, what decides the result of a stage, earlier stages included."""

    def fill(self, stage: Stage, job: Job) -> None:
        """Put into a stage's Job what the configuration determines."""

    def config_files(self) -> Mapping[str, str | bytes]:
        """Return the files of the run's ConfigMap."""

    def uploads(self) -> Mapping[str, bytes]:
        """Return files that must be on the volume before the first stage, by their path there."""

    def placement(self, stage: Stage) -> Placement:
        """Return where and how long a stage may run."""

    def pods(self, stage: Stage) -> int:
        """Return how many Pods of a stage work together."""

    def on_the_volume(self, stages: Iterable[Stage]) -> list[str]:
        """Return what these stages need on the volume: data/NAME, or a file in it."""

    def reads_the_volume(self) -> bool:
        """Whether the result depends on data on the volume that may change."""

    def identity(self) -> str:
        """Return what is the same for all runs that may share a local folder, whatever they repeat or add."""

"""The manifests and the executor that a subcommand works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from jobrelay import manifests
from jobrelay.errors import BadInput
from jobrelay.executors.base import Executor
from jobrelay.kube.read import claim_name, main_container
from jobrelay.manifests import Manifests, PipelineConfig
from jobrelay.pipelines.config import ProgramConfig
from jobrelay.pipelines.definition import Pipeline
from jobrelay.pipelines.jobs import manifests_of
from jobrelay.pipelines.reading import with_overrides
from jobrelay.runs.request import RunRequest
from jobrelay_train.config.loading import ConfigError, read_tree, resolve
from jobrelay_train.config.schema import RunConfig


@dataclass(frozen=True)
class Target:
    """Where to run, from the options shared by the subcommands."""

    local: bool = False
    volume: Path = Path("jobrelay-data")
    context: str | None = None
    namespace: str | None = None
    kustomization: Path = manifests.BASE
    pipeline: Pipeline | None = None  # of any programs, in place of the manifests
    image: str | None = None
    api_timeout: float | None = None
    say: Callable[[str], None] = lambda text: None  # gets what an executor waits for

    @cached_property
    def manifests(self) -> Manifests:
        loaded = manifests_of(self.pipeline) if self.pipeline else manifests.load(self.kustomization)
        if loaded.placed or self.local:
            return loaded
        return replace(loaded, namespace=self._context_namespace() or loaded.namespace)

    def manifests_for(self, config: PipelineConfig) -> Manifests:
        """The manifests with what `--set STAGE.KEY=VALUE` changes in them."""
        if isinstance(config, ProgramConfig) and config.pipeline != self.pipeline:
            return replace(self, pipeline=config.pipeline).manifests
        return self.manifests

    def _context_namespace(self) -> str | None:
        """The namespace that `kubectl apply` would use for objects without one."""
        from jobrelay.executors.cluster.api import Api

        try:
            return Api(self.context).context_namespace
        except BadInput:
            return None  # `render` needs no cluster

    def config(self, file: Path | None, overrides: Sequence[str]) -> PipelineConfig:
        """The configuration from the manifests or from `file`, with overrides. Raises BadInput."""
        if self.pipeline:
            if file:
                raise BadInput("--config is for the built-in programs", f"change {self.pipeline.source}")
            return ProgramConfig(with_overrides(self.pipeline, overrides))
        return self.built_in(file, overrides)

    def built_in(self, file: Path | None, overrides: Sequence[str]) -> RunConfig:
        """The configuration of the built-in programs. Raises BadInput."""
        try:
            return resolve(read_tree(file) if file else self.manifests.config, overrides)
        except ConfigError as error:
            lines = "".join(f"\n    {problem}" for problem in error.problems)
            raise BadInput(
                f"the configuration cannot be used:{lines}", f"compare {manifests.BASE}/config.yaml"
            ) from error

    def placed(self, request: RunRequest, config: PipelineConfig) -> RunRequest:
        """The request completed from this target and the configuration. Raises BadInput."""
        there = tuple(self.manifests.jobs)
        if unknown := [stage for stage in request.stages if stage not in there]:
            raise BadInput(f"there is no stage {', '.join(unknown)}", f"choose from {', '.join(there)}")
        needs = config.on_the_volume(request.stages or there)
        return replace(request, namespace=self.namespace, image=self.image, needs=needs)

    def executor(self) -> Executor:
        """The executor, local or cluster; the cluster's client is imported only here. Raises BadInput."""
        if self.local:
            from jobrelay.executors.local import LocalExecutor

            return LocalExecutor(self.volume)
        jobs = list(self.manifests.jobs.values())
        job = next((each for each in jobs if claim_name(each)), jobs[0])
        image = manifests.check_image(self.image or main_container(job)["image"])
        namespace = self.namespace or self.manifests.namespace
        from jobrelay.executors.cluster import ClusterExecutor

        return ClusterExecutor(
            self.context, namespace, self.manifests.claim or "", image, self.api_timeout, self.say,
            may_choose_image=self.image is None, like=job,
        )  # fmt: skip

"""One rendered run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobrelay.kube.objects import AnyObject, Job, Object
from jobrelay.kube.read import claim_name, is_built_in, main_container
from jobrelay_runner.stages import Stage
from jobrelay_train.config.placement import Placement


@dataclass(frozen=True)
class Plan:
    """One rendered run: everything the launcher will send, complete before it sends anything."""

    run: str
    namespace: str
    hash: str
    shared: tuple[Object, ...]
    config_map: Object
    jobs: Mapping[Stage, Job]
    placements: Mapping[Stage, Placement]
    services: tuple[Object, ...] = ()
    identity: str = ""  # PipelineConfig.identity
    uploads: Mapping[str, bytes] = field(default_factory=dict)

    def objects(self) -> list[AnyObject]:
        config = [self.config_map] if self.needs_config_map else []
        return [*self.shared, *config, *self.services, *self.jobs.values()]

    @property
    def needs_config_map(self) -> bool:
        """Whether a Job mounts the run's configuration."""
        name = self.config_map["metadata"]["name"]
        volumes = [
            v for job in self.jobs.values() for v in job["spec"]["template"]["spec"].get("volumes") or ()
        ]
        return any(volume.get("configMap", {}).get("name") == name for volume in volumes)

    @property
    def has_built_in(self) -> bool:
        """Whether a stage is a built-in program, which always leaves a record."""
        return any(is_built_in(main_container(job)) for job in self.jobs.values())

    @property
    def has_volume(self) -> bool:
        """Whether a Job mounts a PersistentVolumeClaim."""
        return any(claim_name(job) for job in self.jobs.values())

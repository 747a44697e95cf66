"""The base of every section of the configuration, and where a stage may run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from jobrelay_train.config.values import Cpu, Memory


class Section(BaseModel):
    """A part of the configuration, of which every key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class Placement(Section):
    """Where and how long a stage may run. What is left out stays as the manifest says."""

    cpu: Cpu | None = Field(default=None, description="CPU request, as Kubernetes writes it: 2, 500m")
    memory: Memory | None = Field(default=None, description="memory request and limit: 2Gi")
    autosize: bool = Field(
        default=False, description="what is not given of these two: as the last run of the same work suggests"
    )
    timeout_seconds: int | None = Field(default=None, ge=1, description="run time of one attempt")
    backoff_limit: int | None = Field(default=None, ge=0, le=10, description="attempts after the first")
    disruption_limit: int | None = Field(
        default=None, ge=0, le=1000, description="Pods that may be lost to evictions and the like"
    )
    queue_timeout_seconds: int | None = Field(default=None, ge=1, description="how long it may be suspended")
    schedule_timeout_seconds: int | None = Field(default=None, ge=1, description="until its Pod has a node")
    start_timeout_seconds: int | None = Field(default=None, ge=1, description="from there until it runs")

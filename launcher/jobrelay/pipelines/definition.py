"""A pipeline of any programs: stages in order, which all work in one folder, the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


def _as_text(value: Any) -> Any:
    """YAML reads 3 and true where an environment variable or a quantity is meant."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_as_text), WithJsonSchema({"type": ["string", "number", "boolean"]})]

#: What a container may do. restricted: passes the Pod Security Standard of that name; image: user and rights
#: are the image's own.
Security = Literal["restricted", "image"]


class StageDefinition(BaseModel):
    """One stage: a command in an image.

    run: a list is executed as it is, text goes through `sh -c`; None: the image's own entrypoint and command.
    workdir: of the command, relative to the workspace, or absolute; None: the image's own. mounts: absolute
    path to a folder of the workspace or to data/NAME (./data/NAME is the workspace's own). secrets: variable
    to SECRET/KEY. shm: size of /dev/shm. metrics: a JSON file in the workspace whose numbers are the stage's
    metrics; of JSON lines the last one counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str | tuple[Text, ...] | None = None
    image: str | None = None
    workdir: str | None = "."
    env: dict[str, Text] = {}
    secrets: dict[str, str] = {}
    mounts: dict[str, str] = {}
    cpu: Text | None = None
    memory: Text | None = None
    shm: Text = "1Gi"
    gpus: int = Field(default=0, ge=0)
    gpu_type: str = "nvidia.com/gpu"
    nodes: int = Field(default=1, ge=1)
    processes: int | None = Field(default=None, ge=1)
    retries: int = Field(default=0, ge=0)
    grace_seconds: int = Field(default=30, ge=0)
    timeout_seconds: int | None = Field(default=None, ge=1)
    on_timeout: Literal["fail", "succeed"] = "fail"
    metrics: str | None = None
    queue: str | None = None
    security: Security | None = None


@dataclass(frozen=True)
class Build:
    """How the image of a stage is built. context, dockerfile: on this machine."""

    context: Path
    dockerfile: Path
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pipeline:
    """Stages in order, and what they find when they start.

    source: the file or command that it was read from. image: of stages that name none; empty: JobRelay's
    own. files: folder of the workspace ("." is the workspace
    itself) to a file or folder of this machine, copied there before the first stage. data: name on the volume
    to a folder of this machine. seeded: stage to those of its mounts that start with the image's own files at
    that path while the folder is empty. users: stage to UID or UID:GID. builds: stage to the build of its
    image. arguments: stages whose `run` goes behind the entrypoint of their image. notes: what the reader
    wants to tell people, a line each.
    """

    source: str
    stages: Mapping[str, StageDefinition]
    image: str
    security: Security = "restricted"
    files: Mapping[str, Path] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Path] = field(default_factory=dict)
    requirements: Path | None = None
    seeded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    builds: Mapping[str, Build] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    is_compose: bool = False
    notes: tuple[str, ...] = ()

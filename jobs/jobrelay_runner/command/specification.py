"""What the launcher tells the runner about a pipeline: pipeline.json, in the run's ConfigMap."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Final, List, Literal, Optional

from jobrelay_runner.errors import BadInput
from jobrelay_runner.volume.safe_read import read_named
from jobrelay_runner.volume.typed_json import Typed

#: Names of the files in the run's ConfigMap.
PIPELINE_FILE: Final = "pipeline.json"
CODE_FILE: Final = "code.tar.gz"
REQUIREMENTS_FILE: Final = "requirements.txt"
_BYTES: Final = 2**20


@dataclass(frozen=True)
class StageSpecification(Typed):
    """One stage. hash: SHA-256 of everything that decides its result, the stages before it included.

    workdir: relative to the workspace, or absolute; None: the image's own. metrics: a file of JSON, or of
    JSON lines, in the workspace. timeout_seconds: after which the runner ends a stage for which that is a
    success. nodes, processes: for torchrun. image: names the environment of the requirements. folders:
    data/NAME that it reads. links: path, relative to the workspace, to data/NAME or a folder of the
    workspace. means: what the record shows of how it was started.
    """

    hash: str
    workdir: Optional[str] = "."
    metrics: Optional[str] = None
    on_timeout: Literal["fail", "succeed"] = "fail"
    timeout_seconds: Optional[int] = None
    nodes: int = 1
    processes: Optional[int] = None
    image: str = ""
    has_requirements: bool = False
    folders: List[str] = field(default_factory=list)
    links: Dict[str, str] = field(default_factory=dict)
    means: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Specification(Typed):
    """A pipeline: its stages in order. code: SHA-256 of the archive with the workspace's first files."""

    pipeline: List[str]
    stages: Dict[str, StageSpecification]
    code: Optional[str] = None
    format: Literal[1] = 1

    def stage(self, name: str) -> StageSpecification:
        """Return the stage of that name. Raises BadInput."""
        if name not in self.stages:
            raise BadInput(f"stage {name} is not in {PIPELINE_FILE}, which has {', '.join(self.stages)}")
        return self.stages[name]


def read_specification(path: Path) -> Specification:
    """Return what `path` holds. Raises BadInput."""
    try:
        return Specification.from_json(read_named(path, _BYTES))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error

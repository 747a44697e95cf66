"""What one process has to do, and its result."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Generic, Mapping, TypeVar

from jobrelay_runner.fence import WriterFence
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import FileDigest, Record

C = TypeVar("C")


@dataclass(frozen=True)
class StageResult:
    """What a successful stage read, wrote and measured, and by what means.

    Names are relative to the run's folder. Those in `skipped` are relative to the data's folder; the value
    is the reason why the file was not used.
    """

    inputs: dict[str, FileDigest] = field(default_factory=dict)
    outputs: dict[str, FileDigest] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    means: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


#: Given a program's exit code, returns its report: outputs, removed, metrics, and notes for the log.
Observed = Callable[[int], Mapping[str, Any]]


@dataclass(frozen=True)
class Program(Generic[C]):
    """What a stage runs.

    config: the program's configuration, of any type. config_hash: SHA-256 (hex) of everything in it that
    determines the result. folders: folders on the volume, data/NAME, in which every file counts. load:
    imports everything that the program needs and returns the program; called only in the stage's own process.
    pipeline: all stages of the run, in order. means: for the record, how it was started. observe: for a
    program that makes no report of its own; called by the supervisor before the work starts, with the record
    of the attempt before this one.
    """

    config: C
    config_hash: str
    folders: tuple[str, ...]
    load: Callable[[], Callable[[StageContext[C], StopRequest], StageResult]]
    pipeline: tuple[Stage, ...] = ()
    means: Mapping[str, str] = field(default_factory=dict)
    limit_seconds: int | None = None
    observe: Callable[[StageContext[C], Record | None], Observed] | None = None


@dataclass(frozen=True)
class StageContext(Generic[C]):
    """One stage of one run: everything that is decided before the stage starts.

    The run's files are written and removed only through `fence`. `index` is the number of this Pod in a
    stage of several Pods: Pod 0 writes, and the fence of the others lets nothing through.
    """

    stage: Stage
    program: Program[C]
    folder: RunFolder
    pod: str
    fence: WriterFence
    index: int = 0

    @property
    def config(self) -> C:
        return self.program.config

    @property
    def config_hash(self) -> str:
        return self.program.config_hash

    def digests(self, *files: Path) -> dict[str, FileDigest]:
        """Hash files as they are now; return the digests by name relative to the run's folder."""
        return self.named({file: FileDigest.of(file, root=self.folder.root) for file in files})

    def named(self, digests: Mapping[Path, FileDigest]) -> dict[str, FileDigest]:
        """Return the digests by the names of their files relative to the run's folder."""
        return {os.path.relpath(file, self.folder.path): digest for file, digest in digests.items()}

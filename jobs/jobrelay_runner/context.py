"""What one process is to do, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from jobrelay_runner.fence import Fence
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import FileProof
from jobrelay_runner.volume.safe_read import UnsafeFile, read_bytes
from jobrelay_train.config.schema import RunConfig, Stage
from jobrelay_train.config.yamlio import MAX_BYTES


@dataclass(frozen=True)
class Assignment:
    """One stage of one run: everything that is decided before the stage starts.

    Files of the run are written and removed through `fence`, and by nobody else. Of a stage of several
    Pods, `index` is this one's number: the one with 0 writes, and the fence of the others lets nothing pass.
    """

    stage: Stage
    config: RunConfig
    folder: RunFolder
    pod: str
    fence: Fence
    index: int = 0

    @property
    def config_hash(self) -> str:
        return self.config.stage_hash(self.stage)

    def prove(self, *files: Path) -> dict[str, FileProof]:
        """Proofs of files as they are now, by their names relative to the run's folder."""
        return self.named({file: FileProof.of(file, root=self.folder.root) for file in files})

    def named(self, proofs: Mapping[Path, FileProof]) -> dict[str, FileProof]:
        """Proofs by the names of their files relative to the run's folder."""
        return {os.path.relpath(file, self.folder.path): proof for file, proof in proofs.items()}

    def keep_config(self) -> None:
        """Write config.yaml, what this run was told, unless that is what it holds already."""
        text = yaml.safe_dump(self.config.result_config(), sort_keys=False)
        path = self.folder.config
        try:
            kept = read_bytes(path, MAX_BYTES, root=self.folder.root)
        except (FileNotFoundError, UnsafeFile):
            kept = None
        if kept != text.encode():
            self.fence.write(path, text)


@dataclass(frozen=True)
class Outcome:
    """What a stage that succeeded has read, written and measured, and by what means.

    Names are relative to the run's folder; those in `skipped` to the data's, with why it was not used.
    """

    inputs: dict[str, FileProof] = field(default_factory=dict)
    outputs: dict[str, FileProof] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    means: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

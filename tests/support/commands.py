"""Commands as stages, run by the runner as in a container: real processes, no fakes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import Record, read_record
from tests.support import REPOSITORY
from tests.support.volume import Ended, clean_environment, finish

#: One that every user may execute, unlike one in root's home.
ANY_PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable


def archive_of(*members: tarfile.TarInfo | tuple[str, bytes, int]) -> bytes:
    """A code archive of ready members and of files: name, content, mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content, mode = member
            made = tarfile.TarInfo(name)
            made.size, made.mode = len(content), mode
            archive.addfile(made, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """A link in a code archive."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@dataclass
class Pipeline:
    """A pipeline of commands on a volume, in the folder `here`.

    stages: what their part of pipeline.json holds beside the hash. python: what runs the runner.
    """

    here: Path
    stages: Mapping[Stage, Mapping[str, Any]] = field(default_factory=lambda: {"a": {}, "b": {}, "c": {}})
    environment: Mapping[str, str] = field(default_factory=dict)
    python: Sequence[str] = (sys.executable,)
    run: str = "r"

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.here / "volume", self.run)

    @property
    def work(self) -> Path:
        return self.folder.workspace

    def describe(self, code: bytes | None = None, **hashes: str) -> None:
        """Write pipeline.json. hashes: of stages that changed."""
        self.folder.root.joinpath("runs").mkdir(parents=True, exist_ok=True)
        tree: dict[str, Any] = {"pipeline": list(self.stages), "stages": {}}
        for stage, own in self.stages.items():
            digest = hashlib.sha256(hashes.get(stage, stage).encode()).hexdigest()
            tree["stages"][stage] = {"hash": digest, **own}
        if code is not None:
            tree["code"] = hashlib.sha256(code).hexdigest()
            (self.here / "code.tar.gz").write_bytes(code)
        (self.here / "pipeline.json").write_text(json.dumps(tree))

    def start(self, stage: Stage, *command: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start the runner with a command. prefix: words before Python, such as setpriv's."""
        if not (self.here / "pipeline.json").exists():
            self.describe()
        variables = {
            "JOBRELAY_CONFIG": str(self.here / "pipeline.json"),
            "JOBRELAY_VOLUME": str(self.folder.root),
            "JOBRELAY_RUN": self.run,
            "JOBRELAY_TERMINATION_MESSAGE": str(self.here / "termination"),
            "PYTHONPATH": str(REPOSITORY / "jobs"),
        }
        return subprocess.Popen(
            [*prefix, *self.python, "-m", "jobrelay_runner", "stage", stage, "--", *command],
            env={**clean_environment(), **variables, **self.environment},
            cwd=self.here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def do(self, stage: Stage, *command: str, prefix: Sequence[str] = (), expect: int = 0) -> Ended:
        """Run a command as a stage to its end."""
        ended = finish(self.start(stage, *command, prefix=prefix))
        assert ended.code == expect, (ended.out, ended.err)
        return ended

    def sh(self, stage: Stage, program: str, expect: int = 0, prefix: Sequence[str] = ()) -> Ended:
        """Run a shell's program as a stage to its end."""
        return self.do(stage, "sh", "-c", program, expect=expect, prefix=prefix)

    def record(self, stage: Stage) -> Record:
        record = read_record(self.folder.record(stage), root=self.folder.root)
        assert record is not None
        return record

    def closing(self) -> dict[str, Any]:
        """The termination message."""
        message: dict[str, Any] = json.loads((self.here / "termination").read_text())
        return message


def outputs(record: Record) -> set[str]:
    """Names of what a stage wrote, relative to the workspace."""
    return {name.removeprefix("workspace/") for name in record.outputs}


def as_user(number: int) -> list[str]:
    """Words that make a command run as another user, whom the system does not know."""
    return ["setpriv", "--reuid", str(number), "--regid", str(number), "--clear-groups"]


def is_root() -> bool:
    return os.geteuid() == 0

"""The record that a stage leaves on the volume when it has finished."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Dict, Final, List, Literal, Mapping, Optional

from jobrelay_runner.stages import Stage, check_stage
from jobrelay_runner.volume.paths import PASSING_ERRORS, TERMINATION_MESSAGE_BYTES
from jobrelay_runner.volume.safe_read import RECORD_BYTES, UnsafeFile, open_regular, read_bytes
from jobrelay_runner.volume.typed_json import Typed

_BLOCK: Final = 1024 * 1024
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class RecordError(ValueError):
    """A record exists and cannot be read; the message names the file."""


def _check_name(name: str, where: str) -> None:
    """Raise ValueError unless the name stays in the run's folder and is in normal form."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != name or not path.parts:
        raise ValueError(f"{where}: {name[:200]!r} is not a file in the folder of the run")


def _check_sha256(text: str, where: str) -> None:
    if not _SHA256.fullmatch(text):
        raise ValueError(f"{where}: 64 hexadecimal digits are expected")


def _check_counts(**values: Optional[float]) -> None:
    for name, value in values.items():
        if value is not None and not 0 <= value < 1e300:
            raise ValueError(f"{name}: {value!r} cannot be")


@dataclass(frozen=True)
class FileDigest(Typed):
    """A file's size and SHA-256 when its stage finished."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        _check_sha256(self.sha256, "sha256")
        _check_counts(bytes=self.bytes)

    @classmethod
    def of(cls, path: Path, *, root: Optional[Path] = None) -> FileDigest:
        """Hash a regular file as it is now. Raises OSError and, as safe_read does, UnsafeFile."""
        hasher = hashlib.sha256()
        with open_regular(path, root=root) as file:
            while block := file.read(_BLOCK):
                hasher.update(block)
            return FileDigest(sha256=hasher.hexdigest(), bytes=file.tell())


@dataclass(frozen=True)
class LogDigest(FileDigest):
    """What a stage printed, counted by the stage itself. file: relative to the run's folder, and in it."""

    file: str
    lines: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_name(self.file, "file")
        _check_counts(lines=self.lines)


@dataclass(frozen=True)
class Cost(Typed):
    """What a stage cost. Seconds count from the start of its work, without the imports before it.

    For a stage that was lost before that, or had nothing to do, they count from the start of the stage.

    cpu_waited_seconds: how long some of its processes were ready and had no CPU, or were throttled; None
    if unknown.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    peak_memory_from: Literal["cgroup", "process"]
    cpu_waited_seconds: Optional[float] = None
    memory_limit_bytes: Optional[int] = None

    def __post_init__(self) -> None:
        _check_counts(
            wall_seconds=self.wall_seconds,
            cpu_seconds=self.cpu_seconds,
            cpu_waited_seconds=self.cpu_waited_seconds,
        )


#: The moments of a stage: its supervisor is up; all imports are done; the work starts (a stage that was
#: started early waits before that); the first batch; its record is on the volume.
Moment = Literal["begun", "imported", "working", "first_batch", "recorded"]


@dataclass(frozen=True)
class Record(Typed):
    """One stage of one run. File names are relative to the run's folder; `inputs` may lie elsewhere.

    While the stage runs, its status is `running`; a stage that was killed stays `running`.

    pipeline: all stages of the run, in order. after: the attempt (attempt_id) of each earlier stage whose
    results this stage used; the clocks of two nodes need not agree. listings: SHA-256 of each data/NAME in
    which every file counts (volume.inputs). changed: those of `outputs` that were there before this stage.
    removed: files of earlier stages that this stage removed.
    means: what the stage found or chose by itself, such as device and precision, or what it was started with.
    skipped: files of the data set that could not be used, and why.
    """

    run: str
    stage: Stage
    status: Literal["running", "succeeded", "failed"]
    pod: str
    config_hash: str
    started: str
    pipeline: List[Stage] = field(default_factory=list)
    after: Dict[Stage, str] = field(default_factory=dict)
    attempt: int = 1
    finished: Optional[str] = None
    exit_code: Optional[int] = None
    error: Optional[str] = None
    inputs: Dict[str, FileDigest] = field(default_factory=dict)
    listings: Dict[str, str] = field(default_factory=dict)
    outputs: Dict[str, FileDigest] = field(default_factory=dict)
    removed: List[str] = field(default_factory=list)
    changed: List[str] = field(default_factory=list)
    metrics: Dict[str, float] = field(default_factory=dict)
    means: Dict[str, str] = field(default_factory=dict)
    skipped: Dict[str, str] = field(default_factory=dict)
    log: Optional[LogDigest] = None
    cost: Optional[Cost] = None
    moments: Dict[str, str] = field(default_factory=dict)
    versions: Dict[str, str] = field(default_factory=dict)
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        _check_sha256(self.config_hash, "config_hash")
        for stage in self.pipeline:
            check_stage(stage)
        if self.attempt < 1:
            raise ValueError(f"attempt: {self.attempt} cannot be")
        for name, listing in self.listings.items():
            _check_sha256(listing, f"listings.{name[:200]}")
        for name in self.outputs:
            _check_name(name, "outputs")
        for name in self.removed:
            _check_name(name, "removed")
        for name in self.changed:
            _check_name(name, "changed")

    @property
    def attempt_id(self) -> str:
        """What no other attempt at a stage of this run has: its log, or while it runs, when it started."""
        return self.log.file if self.log else self.started

    def to_dict(self) -> Dict[str, Any]:
        """Return a JSON tree, the format first."""
        return {"format": self.format, **super().to_dict()}

    def without_files(self) -> Dict[str, Any]:
        """Return the same tree without the parts that grow with the data."""
        tree = self.to_dict()
        for name in ("inputs", "listings", "outputs", "removed", "changed", "skipped"):
            del tree[name]
        return tree


@dataclass(frozen=True)
class Closing(Typed):
    """The record's short form, which a stage leaves in its Pod's termination message.

    oom_kills: processes that the kernel killed for lack of memory. moments: their times by the stage's own
    clock, to the millisecond.
    """

    stage: Stage
    exit_code: int
    log: LogDigest
    cost: Cost
    skipped: bool = False
    error: Optional[str] = None
    oom_kills: int = 0
    metrics: Dict[str, float] = field(default_factory=dict)
    moments: Dict[str, str] = field(default_factory=dict)
    jobrelay: Literal[1] = 1

    def __post_init__(self) -> None:
        _check_counts(oom_kills=self.oom_kills)

    def to_dict(self) -> Dict[str, Any]:
        """Return a JSON tree, the format first, without unknown values."""
        tree = super().to_dict()
        del tree["jobrelay"]
        tree["cost"] = {name: value for name, value in tree["cost"].items() if value is not None}
        if self.error is None:
            del tree["error"]
        return {"jobrelay": self.jobrelay, **tree}

    def message(self) -> str:
        """Return JSON of at most TERMINATION_MESSAGE_BYTES bytes; a long error is truncated."""
        closing = self
        text = closing.to_json()
        while len(text.encode()) > TERMINATION_MESSAGE_BYTES and closing.error:
            closing = replace(closing, error=closing.error[: len(closing.error) // 2])
            text = closing.to_json()
        return text


def parse_closing(message: Optional[str]) -> Optional[Closing]:
    """Return the Closing in a termination message; None if it is absent or another program's."""
    try:
        return Closing.from_json(message or "")
    except ValueError:
        return None


def read_record(path: Path, *, root: Optional[Path] = None) -> Optional[Record]:
    """Return the record at `path`, None if there is none. Raises RecordError if it is not readable.

    root: as in safe_read, the folder below which no link is followed.
    """
    try:
        return Record.from_json(read_bytes(path, RECORD_BYTES, root=root))
    except FileNotFoundError:
        return None
    except UnsafeFile as error:
        raise RecordError(f"{path} is not a readable record: it {error.strerror}") from error
    except OSError as error:
        raise RecordError(f"{path} is not a readable record: {error.strerror or error}") from error
    except ValueError as error:
        raise RecordError(f"{path} is not a readable record: {error}") from error


def differing(folder: Path, digests: Mapping[str, FileDigest]) -> List[str]:
    """Return the names in `digests` whose file below `folder` is missing or different."""
    return [name for name, digest in digests.items() if not matches(folder / name, digest, root=folder)]


def matches(path: Path, digest: FileDigest, *, root: Optional[Path] = None) -> bool:
    """Whether the file exists, can be read, and has the size and hash of its digest."""
    try:
        return verified(path, digest, root=root)
    except OSError:
        return False


def verified(path: Path, digest: FileDigest, *, root: Optional[Path] = None) -> bool:
    """As `matches`, but raises OSError if a network volume does not answer now."""
    hasher = hashlib.sha256()
    left = digest.bytes
    try:
        with open_regular(path, root=root) as file:
            if os.fstat(file.fileno()).st_size != digest.bytes:
                return False
            while block := file.read(min(_BLOCK, left + 1)):  # never more than a byte beyond the digest
                left -= len(block)
                if left < 0:
                    return False
                hasher.update(block)
    except OSError as error:
        if error.errno in PASSING_ERRORS:
            raise
        return False
    except ValueError:  # a name with a NUL, which no file has
        return False
    return left == 0 and hasher.hexdigest() == digest.sha256

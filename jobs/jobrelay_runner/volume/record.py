"""The record: what a stage leaves on the volume when it has finished."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic import ValidationError as PydanticError

from jobrelay_runner.volume.paths import PASSING_ERRORS, TERMINATION_MESSAGE_BYTES, RunFolder
from jobrelay_runner.volume.safe_read import RECORD_BYTES, UnsafeFile, open_regular, read_bytes
from jobrelay_train.config.schema import STAGES, Stage

_BLOCK: Final = 1024 * 1024


class RecordError(ValueError):
    """A record is there and cannot be read; the message names the file."""


def _of_the_run(name: str) -> str:
    """A name that stays in the run's folder, spelt in the one way that there is. Raises ValueError."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != name or not path.parts:
        raise ValueError(f"{name[:200]!r} is not a file in the folder of the run")
    return name


#: Relative to the run's folder, and in it.
FileName = Annotated[str, AfterValidator(_of_the_run)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer writer may say more


class FileProof(_Part):
    """What a file was when its stage finished."""

    sha256: Sha256
    bytes: int = Field(ge=0)

    @classmethod
    def of(cls, path: Path, *, root: Path | None = None) -> FileProof:
        """Proof of a regular file as it is now. Raises OSError and, as safe_read does, UnsafeFile."""
        hasher = hashlib.sha256()
        with open_regular(path, root=root) as file:
            while block := file.read(_BLOCK):
                hasher.update(block)
            return cls(sha256=hasher.hexdigest(), bytes=file.tell())


class LogProof(FileProof):
    """What a stage printed, counted by the stage itself."""

    file: FileName
    lines: int = Field(ge=0)


class Cost(_Part):
    """What a stage took. Seconds count from the beginning of its work, without the imports before it.

    Of a stage that was lost before that, and of one that had nothing to do, they count from its start.
    """

    wall_seconds: Seconds
    cpu_seconds: Seconds
    #: how long some of its processes were ready and had no CPU, or were throttled; None: nobody tells
    cpu_waited_seconds: Seconds | None = None
    peak_memory_bytes: int
    peak_memory_from: Literal["cgroup", "process"]
    memory_limit_bytes: int | None = None


#: Where a stage comes past: its supervisor is up; all is imported; the work begins (a stage that was
#: started early waits before that); its first batch; its record is on the volume.
Moment = Literal["begun", "imported", "working", "first_batch", "recorded"]


class Record(_Part):
    """One stage of one run. File names are relative to the run's folder; `inputs` may lie elsewhere.

    While the stage runs, the file says so (`running`): a stage that was killed stays `running`.
    """

    format: Literal[1] = 1
    run: str
    stage: Stage
    status: Literal["running", "succeeded", "failed"]
    pod: str
    attempt: int = Field(1, ge=1)
    config_hash: Sha256
    started: str
    finished: str | None = None
    exit_code: int | None = None
    error: str | None = None
    inputs: dict[str, FileProof] = {}
    listings: dict[str, Sha256] = {}  # of data/NAME, where every file counts (jobrelay_runner.volume.inputs)
    outputs: dict[FileName, FileProof] = {}
    metrics: dict[str, float] = {}
    means: dict[str, str] = {}  # device, precision and the like: what the stage found or chose by itself
    skipped: dict[str, str] = {}  # files of the data set that could not be used, and why
    log: LogProof | None = None
    cost: Cost | None = None
    moments: dict[str, str] = {}
    versions: dict[str, str] = {}


class Closing(_Part):
    """What a stage says last, through its Pod's termination message: the record's short form."""

    jobrelay: Literal[1] = 1
    stage: Stage
    exit_code: int
    skipped: bool = False
    error: str | None = None
    oom_kills: int = Field(default=0, ge=0, description="processes the kernel killed for want of memory")
    metrics: dict[str, float] = {}
    log: LogProof
    cost: Cost
    moments: dict[str, str] = Field(default={}, description="when, by the stage's own clock, to the ms")

    def message(self) -> str:
        """JSON of at most TERMINATION_MESSAGE_BYTES bytes; a long error is cut."""
        closing = self
        text = closing.model_dump_json(exclude_none=True)
        while len(text.encode()) > TERMINATION_MESSAGE_BYTES and closing.error:
            closing = closing.model_copy(update={"error": closing.error[: len(closing.error) // 2]})
            text = closing.model_dump_json(exclude_none=True)
        return text


def parse_closing(message: str | None) -> Closing | None:
    """The Closing in a termination message; None if another program (or nobody) wrote it."""
    try:
        return Closing.model_validate_json(message or "")
    except PydanticError:
        return None


def read_record(path: Path, *, root: Path | None = None) -> Record | None:
    """The record at `path`, None if there is none. Raises RecordError if it is not readable.

    root: as in safe_read, the folder below which no link is followed.
    """
    try:
        return Record.model_validate_json(read_bytes(path, RECORD_BYTES, root=root))
    except FileNotFoundError:
        return None
    except UnsafeFile as error:
        raise RecordError(f"{path} is not a readable record: it {error.strerror}") from error
    except OSError as error:
        raise RecordError(f"{path} is not a readable record: {error.strerror or error}") from error
    except PydanticError as error:
        raise RecordError(f"{path} is not a readable record: {first_problem(error)}") from error


def first_problem(error: PydanticError) -> str:
    """The first of what may be a million, on one line: `outputs./dev/zero: …`."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:200] for part in first["loc"] if part != "[key]")
    what = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def differing(folder: Path, proofs: dict[str, FileProof]) -> list[str]:
    """The names, of those in `proofs`, whose file below `folder` is absent or another one."""
    return [name for name, proof in proofs.items() if not matches(folder / name, proof, root=folder)]


def matches(path: Path, proof: FileProof, *, root: Path | None = None) -> bool:
    """Whether the file is there, can be read, and has the size and hash of its proof."""
    try:
        return verified(path, proof, root=root)
    except OSError:
        return False


def verified(path: Path, proof: FileProof, *, root: Path | None = None) -> bool:
    """As `matches`, but raises OSError where a network's volume cannot tell now."""
    hasher = hashlib.sha256()
    left = proof.bytes
    try:
        with open_regular(path, root=root) as file:
            if os.fstat(file.fileno()).st_size != proof.bytes:
                return False
            while block := file.read(min(_BLOCK, left + 1)):  # never more than a byte beyond the proof
                left -= len(block)
                if left < 0:
                    return False
                hasher.update(block)
    except OSError as error:
        if error.errno in PASSING_ERRORS:
            raise
        return False
    except ValueError:  # for a name with a NUL, which is nobody's file
        return False
    return left == 0 and hasher.hexdigest() == proof.sha256


def list_runs(root: Path) -> list[dict[str, Any]]:
    """Every run on the volume: {"run": …, "records": {stage: record without its files}, "changed": when}."""
    runs = []
    for path in sorted((root / "runs").glob("[!.]*/")):
        records: dict[str, Any] = {}
        for stage in STAGES:
            try:
                record = read_record(RunFolder(root, path.name).record(stage), root=root)
            except RecordError as error:
                records[stage] = {"status": "failed", "error": str(error)}
                continue
            if record:
                records[stage] = record.model_dump(
                    mode="json", exclude={"inputs", "listings", "outputs", "skipped"}
                )
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
        runs.append({"run": path.name, "records": records, "changed": changed})
    return runs

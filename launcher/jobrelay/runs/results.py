"""Results and logs of a run: copied from the volume to a local folder and checked against the records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobrelay.errors import BadInput, EvidenceIncomplete, UnknownRun
from jobrelay.executors.base import JobReader, Volume
from jobrelay.hints import Command
from jobrelay.kube.objects import Job
from jobrelay.kube.read import finished_condition, pipeline_of
from jobrelay.manifests import PipelineConfig
from jobrelay.runs.folder import Owner, install
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume import archive
from jobrelay_runner.volume.paths import CHECKPOINTS, LOGS
from jobrelay_runner.volume.record import RecordError, differing, read_record
from jobrelay_runner.volume.records import files_of, read_records
from jobrelay_runner.volume.safe_read import regular_files, why
from jobrelay_runner.volume.verify import Check

#: A run without its checkpoints is small; these limits only stop absurd sizes.
_LIMITS = archive.Limits(files=200_000, bytes=1 << 38)


@dataclass(frozen=True)
class Fetched:
    """What `fetch` copied."""

    folder: Path
    files: int
    bytes: int
    logs: tuple[Stage, ...]  # stages whose log here matches their record
    problems: tuple[str, ...]  # where files differ from the records


def fetch(executor: JobReader, run: str, folder: Path, *, everything: bool = False) -> Fetched:
    """Copy `runs/RUN` from the volume into `folder`, without checkpoints unless `everything`.

    The complete copy replaces what an earlier one put there, and nothing else (jobrelay.runs.folder). Raises
    UnknownRun, EvidenceIncomplete if the copy was cut, and Conflict if the folder belongs to another run or
    a file is in the way; then nothing has changed.
    """
    with executor.volume(run) as volume:
        return fetch_from(volume, executor, run, folder, everything=everything)


def fetch_from(
    volume: Volume, executor: JobReader, run: str, folder: Path, *, everything: bool = False
) -> Fetched:
    """`fetch` from a volume that is open already."""
    owner = Owner(run=run, place=executor.place())
    try:
        stream = archive.stream_of(volume.send(f"runs/{run}", everything=everything))
        with archive.received(stream, folder, _LIMITS) as (incoming, digests):
            count = install(incoming, digests, folder, owner)
    except archive.ArchiveError as error:
        raise EvidenceIncomplete(
            f"run {run} was not fetched completely: {error}", Command("fetch", run)
        ) from error
    except OSError as error:
        raise EvidenceIncomplete(f"run {run} cannot be stored in {folder}: {why(error)}") from error
    except EvidenceIncomplete as error:
        if not executor.jobs(run) and not volume.exists(f"runs/{run}"):
            raise UnknownRun(run, executor.place()) from error
        raise
    size = sum(digest.bytes for digest in digests.values())
    logs = tuple(stage for stage in read_records(folder, root=folder) if proven_log(folder, stage))
    return Fetched(folder, count, size, logs, tuple(problems(folder, everything)))


def require_place(folder: Path) -> None:
    """Raise BadInput if results and logs cannot be written to `folder`, which need not exist yet."""
    whole = folder.absolute()
    nearest = next((path for path in (whole, *whole.parents) if os.access(path, os.F_OK)), Path("/"))
    for known in (nearest, whole / "logs"):
        if not os.access(known, os.F_OK):
            continue
        if not known.is_dir():
            why = f"{known} is not a directory"
        elif not os.access(known, os.W_OK | os.X_OK):
            why = f"{known} cannot be written"
        else:
            continue
        raise BadInput(
            f"results and logs cannot be kept in {folder}: {why}", "change to a folder where you may write"
        )


def proven_log(folder: Path, stage: Stage) -> Path | None:
    """The log of a stage in a fetched run; None if it is missing or differs from the stage's record."""
    try:
        record = read_record(folder / f"{stage}.json", root=folder)
    except RecordError:
        return None
    if not record or not record.log or differing(folder, {record.log.file: record.log}):
        return None
    return folder / record.log.file


def logs_of(folder: Path, stage: Stage) -> list[Path]:
    """The logs of a stage in a fetched run, one per attempt. Raises UnsafeFile if `logs` is a link."""
    names = regular_files(folder / LOGS, root=folder)
    others = [f"{other}-" for other in read_records(folder, root=folder) if other.startswith(f"{stage}-")]
    return [
        folder / LOGS / name
        for name in names
        if name.startswith(f"{stage}-") and name.endswith(".log") and not name.startswith(tuple(others))
    ]


def problems(folder: Path, everything: bool = False) -> list[str]:
    """Lines about the files of a fetched run that differ from its records."""
    found = []
    records = read_records(folder, root=folder)
    for stage, record in records.items():
        if isinstance(record, RecordError):
            found.append(str(record))
        elif record.status == "succeeded":
            digests = files_of(records, stage)
            if record.log:
                digests[record.log.file] = record.log
            wanted = {n: d for n, d in digests.items() if everything or not n.startswith(f"{CHECKPOINTS}/")}
            found += [f"{name} differs from what {stage}.json records" for name in differing(folder, wanted)]
    return found


def require(executor: JobReader, paths: Sequence[str]) -> None:
    """Raise BadInput, before training, for a data/NAME or a file in it that is not on the volume."""
    if not paths:
        return
    with executor.volume() as volume:
        for path in paths:
            if not volume.exists(path):
                raise BadInput(f"{path} is not on the volume", Command("put", "DIR", path.split("/")[1]))


def changed_data(executor: JobReader, run: str, config: PipelineConfig, last: Stage | None) -> list[str]:
    """The data on the volume that stages of a run, up to `last`, read and that has changed since."""
    if not config.reads_the_volume() or not any(_has_succeeded(job) for job, _ in executor.jobs(run)):
        return []
    with executor.volume(run) as volume:
        found = volume.changed(run)
    order = list(found)
    upto = order[: order.index(last) + 1] if last in order else order
    return list(dict.fromkeys(name for stage in upto for name in found[stage]))


def check(executor: JobReader, run: str) -> list[Check]:
    """Check that a run is complete on the volume. Raises BadInput if it has no files there."""
    with executor.volume(run) as volume:
        if not volume.exists(f"runs/{run}"):
            raise _nothing_left(executor, run)
        checks = volume.check(run)
    answered = {check.what for check in checks}
    expected = pipeline_of(job for job, _ in executor.jobs(run))
    unanswered = [
        Check(what=part, good=False, found="no answer") for part in expected if part not in answered
    ]
    return [*checks, *unanswered]


def _nothing_left(executor: JobReader, run: str) -> BadInput:
    """The error for a run without a folder on the volume."""
    if not executor.jobs(run):
        return UnknownRun(run, executor.place())
    return BadInput(f"run {run} has no files on the volume", Command("status", run))


def _has_succeeded(job: Job) -> bool:
    return (finished_condition(job) or {}).get("type") == "Complete"

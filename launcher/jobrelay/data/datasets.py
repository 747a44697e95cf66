"""Data sets on the volume: copy a local folder to data/NAME, and remove it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from jobrelay.data import local_files
from jobrelay.data.local_files import LocalFiles
from jobrelay.errors import BadInput, Conflict, JobRelayError
from jobrelay.executors.base import Executor, JobReader
from jobrelay.hints import Command, SameAgain
from jobrelay.kube.labels import ANNOTATION_CONFIG, LABEL_RUN
from jobrelay.kube.objects import Job, Object
from jobrelay.kube.read import finished_condition
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume import layout as layouts
from jobrelay_runner.volume.archive import ArchiveError, Limits
from jobrelay_runner.volume.datasets import contents
from jobrelay_runner.volume.safe_read import why


def survey(folder: Path, *, skip_odd: bool = False) -> LocalFiles:
    """List the files of a local folder to copy. Raises BadInput with all files that cannot be copied.

    skip_odd: leave those files out instead.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a directory", "name the folder whose files are the data set")
    try:
        found = local_files.survey(folder)
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {why(error)}") from error
    if found.refused and not skip_odd:
        raise BadInput(local_files.refusal(folder, found), SameAgain("--skip-odd-names"))
    if not found.files:
        raise BadInput(f"{folder} holds no files")
    if len(found.files) > Limits().files:
        raise BadInput(
            f"{folder} holds {len(found.files):,} files, and at most {Limits().files:,} are copied; divide it"
        )
    return found


def put(
    executor: Executor, shared: Sequence[Object], found: LocalFiles, name: str, *, replace: bool = False
) -> None:
    """Copy local files to `data/NAME` on the volume, all or none. Raises BadInput, Conflict.

    shared: objects that the volume needs, created as before a run. replace: replace an existing data set,
    unless an unfinished run reads it.
    """
    folder = f"data/{name}"
    if replace:
        _refuse_in_use(executor, folder, "replaced")
    executor.share(shared)
    with executor.volume() as volume:
        if not replace and volume.exists(folder):
            raise _there_already(folder)
        try:
            volume.receive(found.files, folder, replace=replace)
        except FileExistsError as error:
            raise _there_already(folder) from error
        except (ArchiveError, OSError) as error:
            raise JobRelayError(f"{folder} could not be put on the volume: {error}") from error


def remove(executor: JobReader, name: str) -> None:
    """Remove `data/NAME` from the volume. Raises BadInput if it is missing, Conflict if a run reads it."""
    folder = f"data/{name}"
    with executor.volume() as volume:
        if not volume.exists(folder):
            raise BadInput(f"{folder} is not on the volume", Command("data", "list"))
        _refuse_in_use(executor, folder, "removed")
        volume.remove(folder)


def summary(name: str, found: LocalFiles) -> list[str]:
    """Lines that report what was copied."""
    inside = contents(found.files)
    classes = f" in {len(inside.layout.class_names):,} classes" if inside.layout else ""
    size = counted(found.bytes, "byte")
    lines = [
        f"copied {layouts.files(len(found.files))}{classes}, {size}",
        *(f"  {note}" for note in local_files.notes(found)),
    ]
    if inside.layout:
        lines += [f"  {line}" for line in layouts.describe(inside.layout, inside.layout.places).split("\n")]
        lines += [f"  warning: {line}" for line in layouts.warnings(inside.layout, inside.layout.places)]
    if inside.problem:
        lines.append(f"  warning: as an imagefolder it would be refused: data/{name} {inside.problem}")
    return lines


def readers(executor: JobReader, folder: str) -> list[str]:
    """The unfinished runs whose configuration names data/NAME or a file in it."""
    found = set()
    for job, _ in executor.jobs():
        if finished_condition(job) is None and folder in _read_by(job):
            found.add(str(job["metadata"]["labels"][LABEL_RUN]))
    return sorted(found)


def _read_by(job: Job) -> set[str]:
    """Each data/NAME that a Job's annotation names; empty for Jobs that JobRelay did not create."""
    text = (job["metadata"].get("annotations") or {}).get(ANNOTATION_CONFIG, "{}")
    try:
        config = json.loads(text)
        data, model, infer = (config.get(section) or {} for section in ("data", "model", "infer"))
        named = [data.get("folder"), f"data/{data.get('name')}", model.get("weights"), infer.get("source")]
    except (ValueError, AttributeError):
        return set()
    return {"/".join(str(name).split("/")[:2]) for name in named if name}


def _refuse_in_use(executor: JobReader, folder: str, verb: str) -> None:
    if runs := readers(executor, folder):
        what = f"run {runs[0]} uses it; wait until it has ended, or cancel it"
        if len(runs) > 1:
            what = f"runs {', '.join(runs)} use it; wait until they have ended, or cancel them"
        raise Conflict(
            f"{folder} cannot be {verb} now: {what}",
            Command("cancel", runs[0]),
        )


def _there_already(folder: str) -> BadInput:
    return BadInput(f"{folder} is on the volume already", SameAgain("--replace"))

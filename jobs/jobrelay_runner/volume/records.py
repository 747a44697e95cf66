"""All records of a run, in the order of its stages, whatever they are called."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, List, Mapping, Tuple, Union

from jobrelay_runner.stages import Stage, check_stage
from jobrelay_runner.volume.paths import CHECKPOINTS, CODE_MARKER, LOGS, WORKSPACE
from jobrelay_runner.volume.record import FileDigest, Record, RecordError, read_record
from jobrelay_runner.volume.safe_read import regular_files

Found = Dict[Stage, Union[Record, RecordError]]


def read_records(folder: Path, *, root: Path) -> Found:
    """Return the record of each stage in a run's folder, in the order of the stages, or why it is unreadable.

    Other JSON files lie beside the records. A stage is known by its logs, or from the record of another one;
    without any logs, by a record that can be read.
    root: as in safe_read.
    """
    found: Found = {}
    names, has_logs = _candidates(folder, root)
    while names:
        records = {stage: record for stage in names if (record := _read(folder, stage, root))}
        if not has_logs and not found:
            records = {stage: record for stage, record in records.items() if isinstance(record, Record)}
        found.update(records)
        names = [
            stage
            for stage in pipeline_of(found)
            if stage not in found and os.path.lexists(folder / f"{stage}.json")
        ]
    return {stage: found[stage] for stage in pipeline_of(found) if stage in found}


def _read(folder: Path, stage: Stage, root: Path) -> Union[Record, RecordError, None]:
    path = folder / f"{stage}.json"
    try:
        record = read_record(path, root=root)
    except RecordError as error:
        return error
    if record and record.stage != stage:
        return RecordError(f"{path} is the record of another stage: {record.stage}")
    return record


def pipeline_of(found: Mapping[Stage, Union[Record, RecordError]]) -> List[Stage]:
    """Return all stages of the run in order, also those without a record yet; the newest record counts."""
    records = sorted(
        (record for record in found.values() if isinstance(record, Record)), key=lambda record: record.started
    )
    order = [stage for record in reversed(records) for stage in record.pipeline]
    order += [record.stage for record in records]
    return list(dict.fromkeys([*order, *found]))


def files_of(found: Mapping[Stage, Union[Record, RecordError]], stage: Stage) -> Dict[str, FileDigest]:
    """Return the files that a stage has left and that no other stage has changed or removed since."""
    record = found.get(stage)
    if not isinstance(record, Record):
        return {}
    records = [other for each in pipeline_of(found) if isinstance(other := found.get(each), Record)]
    records.sort(key=lambda each: not redone_since(each, found))  # stable; the others came after
    later = records[records.index(record) + 1 :]
    gone = {name for other in later for name in (*other.outputs, *other.removed)}
    return {name: digest for name, digest in record.outputs.items() if name not in gone}


def redone_since(record: Record, found: Mapping[Stage, Union[Record, RecordError]]) -> List[Stage]:
    """Return the earlier stages that have run again since this stage used their results."""
    return [
        stage
        for stage, attempt in record.after.items()
        if isinstance(other := found.get(stage), Record) and other.attempt_id != attempt
    ]


def leave_out(folder: Path, root: Path, *, everything: bool) -> Callable[[str], bool]:
    """Return which files and folders of a run stay on the volume when it is fetched, by relative name.

    These are its checkpoints, and of its workspace what no stage wrote: the code. everything: none.
    """
    if everything:
        return lambda name: False
    found = read_records(folder, root=root) if (folder / WORKSPACE).is_dir() else {}
    written = {name for record in found.values() if isinstance(record, Record) for name in record.outputs}
    wanted = written | {str(parent) for name in written for parent in PurePosixPath(name).parents}

    def stays(name: str) -> bool:
        in_workspace = name == WORKSPACE or name.startswith(f"{WORKSPACE}/")
        return name in (CHECKPOINTS, CODE_MARKER) or (in_workspace and name not in wanted)

    return stays


def list_runs(root: Path) -> List[Dict[str, Any]]:
    """List the volume's runs: {"run": …, "records": {stage: record without its files}, "changed": when}."""
    runs = []
    for path in sorted((root / "runs").glob("[!.]*/")):
        records = {
            stage: {"status": "failed", "error": str(record)}
            if isinstance(record, RecordError)
            else record.without_files()
            for stage, record in read_records(path, root=root).items()
        }
        changed = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).isoformat(timespec="seconds")
        runs.append({"run": path.name, "records": records, "changed": changed})
    return runs


def _candidates(folder: Path, root: Path) -> Tuple[List[Stage], bool]:
    """Return the possible stages by their files, and whether there are logs, by which they are known."""
    names, logs = _files(folder, root), _files(folder / LOGS, root)
    stems = [name[: -len(".json")] for name in names if name.endswith(".json")]
    return [
        stem
        for stem in stems
        if _is_stage(stem) and (not logs or any(log.startswith(f"{stem}-") for log in logs))
    ], bool(logs)


def _files(folder: Path, root: Path) -> List[str]:
    try:
        return regular_files(folder, root=root)
    except OSError:
        return []


def _is_stage(name: str) -> bool:
    try:
        return check_stage(name) == name
    except ValueError:
        return False

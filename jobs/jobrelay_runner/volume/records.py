"""All records of a run, in the order of its stages, whatever they are called."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, List, Mapping, Union

from jobrelay_runner.stages import Stage, check_stage
from jobrelay_runner.volume.paths import CHECKPOINTS, CODE_MARKER, LOGS, WORKSPACE
from jobrelay_runner.volume.record import FileDigest, Record, RecordError, read_record
from jobrelay_runner.volume.safe_read import regular_files

Found = Dict[Stage, Union[Record, RecordError]]


def read_records(folder: Path, *, root: Path) -> Found:
    """Return the record of each stage in a run's folder, in the order of the stages, or why it is unreadable.

    Other JSON files lie beside the records. A stage is known by its logs, or from the record of another one.
    root: as in safe_read.
    """
    found: Found = {}
    names = _stages_with_a_log(folder, root)
    while names:
        for stage in names:
            try:
                record = read_record(folder / f"{stage}.json", root=root)
            except RecordError as error:
                found[stage] = error
            else:
                if record:
                    found[stage] = record
        order = pipeline_of(found)
        names = [stage for stage in order if stage not in found and (folder / f"{stage}.json").is_file()]
    return {stage: found[stage] for stage in order if stage in found} if found else {}


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
    records = [each for each in found.values() if isinstance(each, Record)]
    records.sort(key=lambda each: each.started)  # stable: those of one second keep the order of the stages
    later = records[records.index(record) + 1 :]
    gone = {name for other in later for name in (*other.outputs, *other.removed)}
    return {name: digest for name, digest in record.outputs.items() if name not in gone}


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


def _stages_with_a_log(folder: Path, root: Path) -> List[Stage]:
    """The stages whose record is there and that have left a log, or all possible ones if there is no log."""
    try:
        stems = [name[: -len(".json")] for name in regular_files(folder, root=root) if name.endswith(".json")]
        logs = regular_files(folder / LOGS, root=root)
    except OSError:
        return []
    return [
        stem
        for stem in stems
        if _is_stage(stem) and (not logs or any(log.startswith(f"{stem}-") for log in logs))
    ]


def _is_stage(name: str) -> bool:
    try:
        return check_stage(name) == name
    except ValueError:
        return False

"""Check whether a run on the volume is complete: its stages, checkpoint and results, with their files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Optional

from jobrelay_runner.stages import Stage
from jobrelay_runner.text.counting import counted, listed
from jobrelay_runner.volume.inputs import changed
from jobrelay_runner.volume.paths import RunFolder, checkpoint_sidecars
from jobrelay_runner.volume.record import FileDigest, Record, RecordError, differing, matches, read_record
from jobrelay_runner.volume.records import Found, files_of, pipeline_of, read_records
from jobrelay_runner.volume.safe_read import RECORD_BYTES, UnsafeFile, read_bytes, regular_files
from jobrelay_runner.volume.typed_json import Typed


@dataclass(frozen=True)
class Check(Typed):
    """One thing that must exist. content: the contents of a file that people want to see."""

    what: str
    good: bool
    found: str
    content: Optional[Dict[str, Any]] = None


def check_run(folder: RunFolder) -> list[Check]:
    """Check a run's files, hashing all of them."""
    found = read_records(folder.path, root=folder.root)
    stages = [_stage(folder, stage, found) for stage in pipeline_of(found)]
    if not stages:
        return [Check(what="stages", good=False, found="no record: no stage has run")]
    if folder.workspace.is_dir():  # other people's programs: what else they leave is theirs to say
        return stages
    return [*stages, _checkpoint(folder), _eval_results(folder), _pictures(folder)]


def _stage(folder: RunFolder, stage: Stage, records: Found) -> Check:
    record = records.get(stage)
    if not isinstance(record, Record):
        return Check(what=stage, good=False, found=str(record or "no record: it has not run"))
    if record.status != "succeeded":
        return Check(what=stage, good=False, found=f"{record.status}: {record.error or 'it has not ended'}")
    digests: dict[str, FileDigest] = {
        **files_of(records, stage),
        **({record.log.file: record.log} if record.log else {}),
    }
    others = differing(folder.path, digests)
    if others:
        return Check(
            what=stage, good=False, found=f"differs from what {stage}.json records: {listed(others)}"
        )
    if inputs := changed(folder, record):
        found = f"its inputs have changed since: {listed(inputs)}"
        return Check(what=stage, good=False, found=found)
    return Check(
        what=stage, good=True, found=f"succeeded; {counted(len(digests), 'file')} as {stage}.json says"
    )


def _checkpoint(folder: RunFolder) -> Check:
    """Check for the newest complete checkpoint."""
    try:
        there = checkpoint_sidecars(regular_files(folder.checkpoints, root=folder.root))
    except OSError as error:
        return Check(what="checkpoint", good=False, found=_why(error))
    for name in there:
        sidecar = folder.checkpoints / name
        path = sidecar.with_suffix(".pt")
        try:
            digest = FileDigest.from_json(read_bytes(sidecar, RECORD_BYTES, root=folder.root))
        except (OSError, ValueError):
            continue
        if matches(path, digest, root=folder.root):
            found = f"checkpoints/{path.name} ({digest.bytes / 1e6:.1f} MB)"
            return Check(what="checkpoint", good=True, found=found)
    return Check(what="checkpoint", good=False, found="none is intact" if there else "there is none")


def _eval_results(folder: RunFolder) -> Check:
    name = folder.eval_results.name
    try:
        content = json.loads(read_bytes(folder.eval_results, RECORD_BYTES, root=folder.root))
        found = f"test acc {content['test_acc']:.4f} ({content['correct']:,} of {content['samples']:,})"
    except OSError as error:
        return Check(what=name, good=False, found=_why(error))
    except KeyError as error:
        return Check(what=name, good=False, found=f"is not what eval writes: {error.args[0]} is missing")
    except (ValueError, TypeError, RecursionError):
        return Check(what=name, good=False, found="is not what eval writes")
    return Check(what=name, good=True, found=found, content=content)


def _pictures(folder: RunFolder) -> Check:
    """Check for exactly the pictures in the record of infer."""
    try:
        record = read_record(folder.record("infer"), root=folder.root)
    except RecordError:
        record = None
    recorded = {name for name in (record.outputs if record else ()) if name.endswith(".png")}
    try:
        names = regular_files(folder.results, root=folder.root)
    except OSError as error:
        return Check(what="pictures", good=False, found=_why(error))
    there = {f"{folder.results.name}/{name}" for name in names if name.endswith(".png")}
    found = f"{len(there):,} in {folder.results.name}/"
    if there != recorded:
        found += f", infer.json has {len(recorded):,}"
    return Check(what="pictures", good=bool(there) and there == recorded, found=found)


def _why(error: OSError) -> str:
    return str(error) if isinstance(error, UnsafeFile) else error.strerror or str(error)

"""`python -m jobs volume …`: what the launcher's reader Pod does on the volume.

    list                    one JSON line a run: its name, its records
    send FOLDER [--all]     a folder below the volume as an archive on stdout
    receive FOLDER          an archive on stdin becomes that folder, whole or not at all
    remove FOLDER           a folder and all below it
    exists FOLDER           exit 0 if it is there, 1 if not

Folders are relative to the volume's root and lie below `runs/` or `data/`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from jobs.contract import archive, exit_codes
from jobs.contract.config import STAGES
from jobs.contract.record import RecordError, read_record
from jobs.contract.volume import RunFolder

#: A `receive` that was killed leaves its temporary folder; one this old is nobody's any more.
_ABANDONED_SECONDS: Final = 24 * 3600


def main(argv: Sequence[str], root: Path) -> int:
    """Run one verb on the volume at `root`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs volume")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list")
    for verb in ("send", "receive", "remove", "exists"):
        verbs.add_parser(verb).add_argument("folder")
    verbs.choices["send"].add_argument("--all", action="store_true", help="checkpoints too")
    arguments = parser.parse_args(argv)
    try:
        if arguments.verb == "list":
            for run in list_runs(root):
                print(json.dumps(run))
            return exit_codes.SUCCEEDED
        folder = inside(root, arguments.folder)
        if arguments.verb == "exists":
            return exit_codes.SUCCEEDED if folder.is_dir() else exit_codes.FAILED
        if arguments.verb == "receive":
            clear_abandoned(folder.parent)
            archive.unpack(sys.stdin.buffer, folder)
        elif arguments.verb == "remove":
            shutil.rmtree(folder)
        else:
            send(folder, everything=arguments.all)
    except (OSError, archive.ArchiveError) as error:
        print(f"{arguments.verb}: {error}", file=sys.stderr)
        return exit_codes.FAILED
    return exit_codes.SUCCEEDED


def send(folder: Path, *, everything: bool) -> None:
    """Write `folder` as an archive to stdout; without checkpoints unless `everything`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not on the volume")
    archive.pack(folder, sys.stdout.buffer, leave_out_for(everything))
    sys.stdout.buffer.flush()


def leave_out_for(everything: bool) -> Callable[[str], bool]:
    """What stays behind when a run is fetched: its checkpoints, unless all is asked for."""
    return lambda name: not everything and name == "checkpoints"


def list_runs(root: Path) -> list[dict[str, object]]:
    """Every run on the volume with the records that it has, as JSON trees."""
    runs = []
    for path in sorted((root / "runs").glob("*/")):
        if path.name.startswith("."):
            continue
        records = {}
        for stage in STAGES:
            try:
                record = read_record(RunFolder(root, path.name).record(stage))
            except RecordError as error:
                records[stage] = {"status": "failed", "error": str(error)}
                continue
            if record:
                records[stage] = record.model_dump(mode="json", exclude={"inputs", "outputs"})
        runs.append({"run": path.name, "records": records})
    return runs


def inside(root: Path, name: str) -> Path:
    """The folder `name` below runs/ or data/. Raises ArchiveError for any other place."""
    path = archive.safe_name(name)
    if len(path.parts) != 2 or path.parts[0] not in ("runs", "data"):
        raise archive.ArchiveError(f"{name!r}: expected runs/RUN or data/NAME")
    return root / path


def clear_abandoned(folder: Path) -> None:
    """Remove what a killed `receive` left in `folder` long ago."""
    for left in folder.glob(".*.partial"):
        if left.is_dir() and time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)

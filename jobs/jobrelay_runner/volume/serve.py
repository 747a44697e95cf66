"""`python -m jobrelay_runner volume …`: what the launcher's reader Pod does on the volume.

    list                    one JSON line per run: its name, its records
    send FOLDER [--all]     a folder below the volume as an archive on stdout
    receive FOLDER [--replace]  an archive on stdin becomes that folder, completely or not at all
    remove FOLDER           remove a folder with its contents
    exists PATH             exit 0 if that folder, or file in one, exists, 1 if not
    check RUN               one JSON line for each thing that a complete run has
    data                    one JSON line per data set: its name, size and contents
    changed RUN             the run's input data that has changed since, by stage, in JSON

Folders are relative to the volume's root and lie below `runs/` or `data/`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jobrelay_runner import exit_codes
from jobrelay_runner.volume import archive, folders
from jobrelay_runner.volume.datasets import exists, list_data_sets
from jobrelay_runner.volume.inputs import changed_since
from jobrelay_runner.volume.paths import RunFolder, check_name, inside
from jobrelay_runner.volume.records import leave_out, list_runs
from jobrelay_runner.volume.verify import check_run


def main(argv: Sequence[str], root: Path) -> int:
    """Run one verb on the volume at `root`; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobrelay_runner volume")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list")
    verbs.add_parser("data")
    for verb in ("send", "receive", "remove", "exists"):
        verbs.add_parser(verb).add_argument("folder")
    for verb in ("check", "changed"):
        verbs.add_parser(verb).add_argument("run")
    verbs.choices["receive"].add_argument("--replace", action="store_true", help="what is there already")
    verbs.choices["send"].add_argument("--all", action="store_true", help="checkpoints too")
    arguments = parser.parse_args(argv)
    try:
        if arguments.verb == "list":
            for run in list_runs(root):
                print(json.dumps(run))
            return exit_codes.SUCCEEDED
        if arguments.verb == "data":
            for data_set in list_data_sets(root):
                print(data_set.to_json())
            return exit_codes.SUCCEEDED
        if arguments.verb == "check":
            for check in check_run(RunFolder(root, check_name(arguments.run, "run id"))):
                print(check.to_json())
            return exit_codes.SUCCEEDED
        if arguments.verb == "changed":
            print(json.dumps(changed_since(RunFolder(root, check_name(arguments.run, "run id")))))
            return exit_codes.SUCCEEDED
        if arguments.verb == "exists":
            return exit_codes.SUCCEEDED if exists(root, arguments.folder) else exit_codes.FAILED
        folder = inside(root, arguments.folder)
        if arguments.verb == "receive":
            archive.unpack(sys.stdin.buffer, folder, replace=arguments.replace)
        elif arguments.verb == "remove":
            folders.remove(folder)
        else:
            send(folder, root, everything=arguments.all)
    except (OSError, ValueError) as error:
        print(f"{arguments.verb}: {error}", file=sys.stderr)
        return exit_codes.FAILED
    return exit_codes.SUCCEEDED


def send(folder: Path, root: Path, *, everything: bool) -> None:
    """Write `folder` as an archive to stdout; without checkpoints unless `everything`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not on the volume")
    archive.pack(folder, sys.stdout.buffer, leave_out(folder, root, everything=everything))
    sys.stdout.buffer.flush()

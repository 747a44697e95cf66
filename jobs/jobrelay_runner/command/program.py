"""A command as a program for the supervisor: it replaces the stage's process and is observed from outside."""

from __future__ import annotations

import functools
import time
from typing import Any, Callable, Dict, Final, List, Mapping, NoReturn, Optional, Sequence

from jobrelay_runner.command import workspace
from jobrelay_runner.command.execution import execute
from jobrelay_runner.command.metrics import read_metrics
from jobrelay_runner.command.specification import Specification, StageSpecification
from jobrelay_runner.context import Observed, Program, StageContext
from jobrelay_runner.errors import BadEvidence
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.stages import Stage
from jobrelay_runner.text.counting import listed
from jobrelay_runner.volume.files import make_folder
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import Record, differing
from jobrelay_runner.volume.records import Found, files_of, read_records

#: Pod 0 unpacks the code; its volume may be a network one.
_POLL_SECONDS: Final = 0.2


def command_program(
    specification: Specification, stage: Stage, argv: Sequence[str], read_code: Callable[[], bytes]
) -> Program[StageSpecification]:
    """Return the program that runs `argv` as this stage. read_code: returns the code's archive.

    Raises BadInput for a stage that is not in the specification.
    """
    own = specification.stage(stage)
    return Program(
        config=own,
        config_hash=own.hash,
        folders=tuple(own.folders),
        load=lambda: functools.partial(_execute, tuple(argv), specification.code),
        pipeline=tuple(specification.pipeline),
        means=own.means,
        limit_seconds=own.timeout_seconds if own.on_timeout == "succeed" else None,
        observe=functools.partial(_observe, read_code, specification.code),
    )


def _execute(
    argv: Sequence[str], code: Optional[str], context: StageContext[StageSpecification], stop: StopRequest
) -> NoReturn:
    """Become the command, once Pod 0 has unpacked the code. Where that fails, the Job ends this process."""
    while context.index and code and not workspace.has_code(context.folder, code):
        time.sleep(_POLL_SECONDS)
    execute(argv, context, stop)


def _observe(
    read_code: Callable[[], bytes],
    digest: Optional[str],
    context: StageContext[StageSpecification],
    previous: Optional[Record],
) -> Observed:
    """Prepare the workspace; return what tells, after the end, what the command wrote and measured.

    Raises BadEvidence if a file of an earlier stage is not what its record says.
    """
    folder = context.folder
    make_folder(folder.workspace)
    for path, target in context.config.links.items():
        workspace.link(folder, path, target)
    unpacked = _unpack(folder, read_code, digest) if digest else []
    found = read_records(folder.path, root=folder.root)
    before = workspace.state_before(context, previous, found, unpacked)
    _check_earlier_files(context, found, before)

    def observed(code: int) -> Mapping[str, Any]:
        changes = workspace.changes_since(before, folder)
        report: Dict[str, Any] = {
            "outputs": {name: digest.to_dict() for name, digest in changes.written.items()},
            "removed": changes.removed,
            "changed": changes.changed,
            "metrics": {},
            "notes": [],
        }
        if changes.left_out:
            report["notes"].append(
                f"{changes.left_out} more files changed, too many or unreadable: the record lacks them"
            )
        wanted = context.config.metrics
        if wanted and code == 0:
            path = folder.workspace / wanted
            try:
                report["metrics"] = read_metrics(path, folder.root)
            except (OSError, ValueError, RecursionError) as error:
                report["notes"].append(f"no metrics from {wanted}: {error}")
        if code == 0 and not changes.written and not changes.removed:
            report["notes"].append("succeeded, but wrote nothing")
        return report

    return observed


def _unpack(folder: RunFolder, read_code: Callable[[], bytes], digest: str) -> List[str]:
    if workspace.has_code(folder, digest):
        return []
    from jobrelay_runner.command.code import unpack  # with tarfile and more, which later stages do not need

    return unpack(folder, read_code(), digest)


def _check_earlier_files(
    context: StageContext[StageSpecification], found: Found, before: workspace.State
) -> None:
    """Raise BadEvidence if a file that an earlier stage left is not what its record says.

    An earlier attempt of this stage may have changed it.
    """
    folder, order = context.folder, context.program.pipeline
    now = workspace.state_of(folder)
    for stage in order[: order.index(context.stage)]:
        names = differing(folder.path, files_of(found, stage))
        others = [name for name in names if before.get(name) == now.get(name)]
        if others:
            raise BadEvidence(
                f"{listed(others)}: changed since {stage} ended ({stage}.json has the digests); put the "
                "files back, or delete the run's files and start again"
            )

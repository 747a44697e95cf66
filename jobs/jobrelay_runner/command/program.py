"""A command as a program for the supervisor: it replaces the stage's process and is observed from outside."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Final, List, Mapping, NoReturn, Optional, Sequence

from jobrelay_runner.command import workspace
from jobrelay_runner.command.metrics import read_metrics
from jobrelay_runner.command.specification import Specification, StageSpecification
from jobrelay_runner.context import Observed, Program, StageContext, StageResult
from jobrelay_runner.errors import BadEvidence, BadInput
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.stages import Stage
from jobrelay_runner.text.counting import listed
from jobrelay_runner.volume.files import make_folder
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import Record, differing
from jobrelay_runner.volume.records import Found, files_of, read_records

#: Set by the local executor: folders to mount, as JSON {absolute path: folder}.
ENV_BINDS: Final = "JOBRELAY_BINDS"
#: The runner's own variables are not the program's business.
_OURS: Final = ("JOBRELAY_AFTER", "JOBRELAY_CONFIG", "JOBRELAY_TERMINATION_MESSAGE", ENV_BINDS)


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
        load=functools.partial(_load, tuple(argv)),
        pipeline=tuple(specification.pipeline),
        means=own.means,
        observe=functools.partial(_observe, read_code, specification.code),
    )


def _load(argv: Sequence[str]) -> Callable[[StageContext[StageSpecification], StopRequest], StageResult]:
    return functools.partial(_execute, argv)


def _execute(argv: Sequence[str], context: StageContext[StageSpecification], stop: StopRequest) -> NoReturn:
    """Replace this process by the command. Raises BadInput if that is not possible."""
    if os.environ.get(ENV_BINDS):
        from jobrelay_runner.command.binds import bind_all

        bind_all(os.environ[ENV_BINDS])
    folder = context.folder.workspace / context.config.workdir
    try:
        if not Path(context.config.workdir).is_absolute():
            folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
    except OSError as error:
        raise BadInput(f"the working directory {folder} cannot be used: {error.strerror}") from error
    environment = _environment(os.environ)
    words = [_newest(word) for word in argv]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    stop.obey()
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvpe(words[0], words, environment)  # noqa: S606 (the user's own command)
    except OSError as error:
        raise BadInput(_why_not(words[0], error, environment.get("PATH", ""))) from error


def _why_not(command: str, error: OSError, path: str) -> str:
    import shutil

    text = f"the command {command} cannot be executed: {error.strerror}"
    if isinstance(error, FileNotFoundError) and shutil.which(command, path=path):
        return f"{text}; the file is there, but the interpreter in its first line is not"
    return text if "/" in command else f"{text}; PATH is {path}"


def _environment(given: Mapping[str, str]) -> Dict[str, str]:
    """Return the program's variables. What libraries ask for is there even for a user whom nobody knows."""
    environment = {name: value for name, value in given.items() if name not in _OURS}
    home = environment.get("HOME", "/")
    if not Path(home).is_dir() or not os.access(home, os.W_OK | os.X_OK):
        import tempfile

        with contextlib.suppress(OSError):  # no folder for temporary files, either
            environment["HOME"] = tempfile.mkdtemp(prefix="home-")
    if "USER" not in environment and not _has_a_name():
        environment["USER"] = environment["LOGNAME"] = f"uid{os.getuid()}"
    return environment


def _has_a_name() -> bool:
    import pwd

    try:
        return bool(pwd.getpwuid(os.getuid()))
    except KeyError:
        return False


def _newest(word: str) -> str:
    """Return the newest file or folder that a pattern matches; a word that matches none as it is."""
    if not any(character in word for character in "*?["):
        return word
    import glob

    found = glob.glob(word)  # noqa: PTH207 (relative, or absolute)
    return max(found, key=lambda name: (os.lstat(name).st_mtime_ns, name), default=word)


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
    unpacked = _unpack(folder, read_code, digest) if digest else []
    found = read_records(folder.path, root=folder.root)
    before = workspace.state_before(context, previous, found, unpacked)
    _check_earlier_files(context, found, before)

    def observed(code: int) -> Mapping[str, Any]:
        changes = workspace.changes_since(before, folder)
        report: Dict[str, Any] = {
            "outputs": {name: digest.to_dict() for name, digest in changes.written.items()},
            "removed": changes.removed,
            "metrics": {},
            "notes": [],
        }
        if changes.left_out:
            report["notes"].append(
                f"the record leaves out {changes.left_out} more changed files: too many, or unreadable"
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
    from jobrelay_runner.command.code import (
        unpack,
    )  # imports tarfile and more, which later stages do not need

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

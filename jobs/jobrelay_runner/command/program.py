"""A command as a program for the supervisor: it replaces the stage's process and is observed from outside."""

from __future__ import annotations

import functools
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Final, Mapping, NoReturn, Optional, Sequence

from jobrelay_runner.command import workspace
from jobrelay_runner.command.binds import bind_all
from jobrelay_runner.command.metrics import read_metrics
from jobrelay_runner.command.specification import Specification, StageSpecification
from jobrelay_runner.context import Observed, Program, StageContext, StageResult
from jobrelay_runner.errors import BadInput
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.files import make_folder

#: Set by the local executor: folders to mount, as JSON {absolute path: folder}.
ENV_BINDS: Final = "JOBRELAY_BINDS"
#: The runner's own variables are not the program's business.
_OURS: Final = ("JOBRELAY_AFTER", "JOBRELAY_CONFIG", "JOBRELAY_TERMINATION_MESSAGE", ENV_BINDS)


def command_program(
    specification: Specification, stage: Stage, argv: Sequence[str], code: Optional[bytes]
) -> Program[StageSpecification]:
    """Return the program that runs `argv` as this stage. code: the archive with the workspace's first files.

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
        observe=functools.partial(_observe, code, specification.code),
    )


def _load(argv: Sequence[str]) -> Callable[[StageContext[StageSpecification], StopRequest], StageResult]:
    return functools.partial(_execute, argv)


def _execute(argv: Sequence[str], context: StageContext[StageSpecification], stop: StopRequest) -> NoReturn:
    """Replace this process by the command. Raises BadInput if that is not possible."""
    bind_all(os.environ.get(ENV_BINDS))
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
        raise BadInput(
            f"the command {words[0]} cannot be executed: {error.strerror}; "
            f"PATH is {environment.get('PATH', '')}"
        ) from error


def _environment(given: Mapping[str, str]) -> Dict[str, str]:
    """Return the program's variables. What libraries ask for is there even for a user whom nobody knows."""
    environment = {name: value for name, value in given.items() if name not in _OURS}
    home = environment.get("HOME", "/")
    if not Path(home).is_dir() or not os.access(home, os.W_OK | os.X_OK):
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
    return max(found, key=os.path.getmtime) if found else word


def _observe(
    code: Optional[bytes], digest: Optional[str], context: StageContext[StageSpecification]
) -> Observed:
    """Prepare the workspace; return what tells, after the end, what the command wrote and measured.

    Raises BadEvidence if a file of an earlier stage is not what its record says.
    """
    folder = context.folder
    if code is not None and digest is not None:
        workspace.unpack_code(folder, code, digest)
    else:
        make_folder(folder.workspace)
    before = workspace.state_of(folder)

    def observed(code: int) -> Mapping[str, Any]:
        changes = workspace.changes_since(before, folder)
        report: Dict[str, Any] = {
            "outputs": {name: digest.to_dict() for name, digest in changes.written.items()},
            "removed": changes.removed[: workspace.MOST_FILES],
            "metrics": {},
            "notes": [],
        }
        if changes.left_out:
            report["notes"].append(
                f"{changes.left_out} more files were written; the record does not name them"
            )
        wanted = context.config.metrics
        if wanted and code == 0:
            path = folder.workspace / wanted
            try:
                report["metrics"] = read_metrics(path, folder.root)
            except (OSError, ValueError) as error:
                report["notes"].append(f"no metrics from {wanted}: {error}")
        if code == 0 and not changes.written and not changes.removed:
            report["notes"].append("succeeded, but wrote nothing")
        return report

    return observed

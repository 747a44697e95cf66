"""The stage's process becomes the user's command: folder, variables, signals, then exec."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Dict, Final, Mapping, NoReturn, Sequence

from jobrelay_runner.command.specification import REQUIREMENTS_FILE, StageSpecification
from jobrelay_runner.context import StageContext
from jobrelay_runner.errors import BadInput
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.volume.paths import ENV_CONFIG

#: Set by the local executor: folders to mount, as JSON {absolute path: folder}.
ENV_BINDS: Final = "JOBRELAY_BINDS"
#: The runner's own variables are not the program's business.
_OURS: Final = ("JOBRELAY_AFTER", "JOBRELAY_CONFIG", "JOBRELAY_TERMINATION_MESSAGE", ENV_BINDS)


def execute(argv: Sequence[str], context: StageContext[StageSpecification], stop: StopRequest) -> NoReturn:
    """Replace this process by the command. Raises BadInput if that is not possible."""
    if os.environ.get(ENV_BINDS):
        from jobrelay_runner.command.binds import bind_all

        bind_all(os.environ[ENV_BINDS])
    if context.config.workdir is not None:
        _enter(context.folder.workspace, context.config.workdir)
    environment = _environment(os.environ, context)
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


def _enter(workspace: Path, workdir: str) -> None:
    folder = workspace / workdir
    try:
        if not Path(workdir).is_absolute():
            folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
    except OSError as error:
        raise BadInput(f"the working directory {folder} cannot be used: {error.strerror}") from error


def _why_not(command: str, error: OSError, path: str) -> str:
    import shutil

    text = f"the command {command} cannot be executed: {error.strerror}"
    if isinstance(error, FileNotFoundError) and shutil.which(command, path=path):
        return f"{text}; the file is there, but the interpreter in its first line is not"
    return text if "/" in command else f"{text}; PATH is {path}"


def _environment(given: Mapping[str, str], context: StageContext[StageSpecification]) -> Dict[str, str]:
    """Return the program's variables. Raises BadInput for requirements that cannot be installed.

    What libraries ask for is there even for a user whom nobody knows.
    """
    environment = {name: value for name, value in given.items() if name not in _OURS}
    home = environment.get("HOME", "/")
    if not Path(home).is_dir() or not os.access(home, os.W_OK | os.X_OK):
        import tempfile

        with contextlib.suppress(OSError):  # no folder for temporary files, either
            environment["HOME"] = tempfile.mkdtemp(prefix="home-")
    if "USER" not in environment and not _has_a_name():
        environment["USER"] = environment["LOGNAME"] = f"uid{os.getuid()}"
    own = context.config
    if own.nodes > 1 or own.processes:
        from jobrelay_runner.command.torchrun import torchrun_variables

        run = context.folder.run
        environment = {
            **torchrun_variables(run, context.stage, own.nodes, own.processes, given),
            **environment,
        }
    if own.has_requirements:
        from jobrelay_runner.command.requirements import ENV_ENVIRONMENTS, environment_with

        file = Path(given[ENV_CONFIG]).with_name(REQUIREMENTS_FILE)
        folder = Path(given.get(ENV_ENVIRONMENTS) or context.folder.root / "envs")
        environment = environment_with(file, own.image, folder, environment)
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

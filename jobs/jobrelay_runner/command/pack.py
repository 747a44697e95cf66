"""Several runs of one pipeline in one container: the same stage of each, one after the other.

Each run has its own folder, workspace, record and log, as if it had the container for itself. Starting a
container costs seconds, and a run in a pack costs a fork.
"""

from __future__ import annotations

import functools
import gzip
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Final, List, Mapping, Optional

from jobrelay_runner import exit_codes
from jobrelay_runner.command.program import command_program
from jobrelay_runner.command.running import read_code
from jobrelay_runner.command.specification import Specification
from jobrelay_runner.errors import BadInput, StageError
from jobrelay_runner.stages import Stage, check_stage
from jobrelay_runner.supervisor import supervise
from jobrelay_runner.termination import leave_message
from jobrelay_runner.volume.paths import ENV_CONFIG, ENV_POD, ENV_RUN, ENV_TERMINATION, ENV_VOLUME, RunFolder
from jobrelay_runner.volume.record import RecordError, read_record
from jobrelay_runner.volume.safe_read import read_named
from jobrelay_runner.volume.typed_json import Typed

#: Its name in the ConfigMap: JSON, compressed, because the runs of a pack differ in little.
PACK_FILE: Final = "pack.json.gz"
_BYTES: Final = 2**20
_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT}


@dataclass(frozen=True)
class PackedStage(Typed):
    """A stage of one run. retries: further attempts after a failed one."""

    argv: List[str]
    environment: Dict[str, str] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True)
class PackedRun(Typed):
    """One run of the pack."""

    run: str
    specification: Specification
    stages: Dict[str, PackedStage]


@dataclass(frozen=True)
class Pack(Typed):
    """Runs of one pipeline, in the order in which they take their turn."""

    runs: List[PackedRun]

    def to_bytes(self) -> bytes:
        """Return the content of PACK_FILE."""
        return gzip.compress(self.to_json().encode(), mtime=0)


def run_pack(stage: Stage, environment: Mapping[str, str] = os.environ) -> int:
    """Run a stage of every run in the pack; return the exit code of this process.

    A run that fails is in its record, and the others continue: only what ends the whole pack is an error.
    """
    try:
        missing = [name for name in (ENV_CONFIG, ENV_VOLUME) if not environment.get(name)]
        if missing:
            raise BadInput(f"{', '.join(missing)}: not set; the launcher's manifests set it")
        check_stage(stage)
        config = Path(environment[ENV_CONFIG]).with_name(PACK_FILE)
        pack = _read(config)
    except (StageError, ValueError) as error:
        print(f"{stage}: {error}", file=sys.stderr)
        if environment.get(ENV_TERMINATION):
            leave_message(Path(environment[ENV_TERMINATION]), f"{stage}: {error}"[:1024])
        return error.exit_code if isinstance(error, StageError) else BadInput.exit_code
    from jobrelay_runner.command import code  # noqa: F401 (imported once, not by every run)

    volume = Path(environment[ENV_VOLUME]).absolute()
    turns = _Turns()
    for each in pack.runs:
        folder = RunFolder(volume, each.run)
        if not _may_run(each, stage, folder):
            continue
        for _ in range(each.stages[stage].retries + 1):
            print(f"--- {stage} of {each.run}", flush=True)
            exit_code = turns.take(functools.partial(_run, each, stage, folder, config))
            if exit_code in (0, *exit_codes.FINAL) or turns.stopped:
                break
        if turns.stopped:
            return exit_codes.TERMINATED
        if exit_code == exit_codes.SUPERSEDED:
            return exit_code  # another process works on these runs
    return exit_codes.SUCCEEDED


def _read(path: Path) -> Pack:
    try:
        return Pack.from_json(gzip.decompress(read_named(path, _BYTES)))
    except (OSError, EOFError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def _may_run(each: PackedRun, stage: Stage, folder: RunFolder) -> bool:
    """Whether the stage before this one has succeeded."""
    order = each.specification.pipeline
    if stage == order[0]:
        return True
    before = order[order.index(stage) - 1]
    try:
        record = read_record(folder.record(before), root=folder.root)
    except RecordError:
        return False
    return (
        record is not None
        and record.status == "succeeded"
        and record.config_hash == each.specification.stage(before).hash
    )


def _run(each: PackedRun, stage: Stage, folder: RunFolder, config: Path) -> int:
    """Run the stage of one run, in a process of its own."""
    own = each.stages[stage]
    os.environ.update(own.environment)
    os.environ[ENV_RUN] = each.run
    code = functools.partial(read_code, each.specification, config, folder)
    program = command_program(each.specification, stage, own.argv, code)
    return supervise(stage, program, folder, os.environ.get(ENV_POD) or "local")


class _Turns:
    """Runs one function after the other, each in a fork, and passes signals on to it."""

    def __init__(self) -> None:
        self.stopped = False
        self._child: Optional[int] = None
        for number in _SIGNALS:
            signal.signal(number, self._pass_on)

    def take(self, work: Callable[[], int]) -> int:
        """Return the exit code of `work`, 128 + n for signal n. Reaps orphans meanwhile, as PID 1 must."""
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._child = os.fork()
        if self._child == 0:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            code = 1
            try:
                code = work()
                sys.stdout.flush()
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        while True:
            process, status = os.waitpid(-1, 0)
            if process == self._child:
                self._child = None
                return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def _pass_on(self, *_: object) -> None:
        self.stopped = True
        if self._child:
            os.kill(self._child, signal.SIGTERM)

"""A command as a stage, with the settings that the Job's environment gives."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Mapping, Sequence

from jobrelay_runner.command.program import command_program
from jobrelay_runner.command.specification import Specification, read_specification
from jobrelay_runner.errors import BadInput, StageError
from jobrelay_runner.stages import Stage, check_stage
from jobrelay_runner.supervisor import supervise
from jobrelay_runner.termination import leave_message
from jobrelay_runner.volume.paths import (
    ENV_AFTER,
    ENV_CONFIG,
    ENV_INDEX,
    ENV_POD,
    ENV_RUN,
    ENV_TERMINATION,
    ENV_VOLUME,
    RunFolder,
    check_name,
)


def run_stage(stage: Stage, argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Run a command as a stage to its end; return the exit code of this process."""
    termination = Path(environment[ENV_TERMINATION]) if environment.get(ENV_TERMINATION) else None
    try:
        specification, config, folder = _settings(environment)
        program = command_program(
            specification,
            check_stage(stage),
            argv,
            functools.partial(read_code, specification, config, folder),
        )
        after = environment.get(ENV_AFTER)
        gate = None
        if after:
            from jobrelay_runner.order.gate import Gate

            gate = Gate(specification.stage(after).hash, folder, after)
    except (StageError, ValueError) as error:
        print(f"{stage}: {error}", file=sys.stderr)
        leave_message(termination, f"{stage}: {error}"[:1024])
        return error.exit_code if isinstance(error, StageError) else BadInput.exit_code
    index = environment.get(ENV_INDEX, "")
    pod = environment.get(ENV_POD) or "local"
    return supervise(stage, program, folder, pod, termination, int(index) if index.isdecimal() else 0, gate)


def wait_for(stage: Stage, environment: Mapping[str, str] = os.environ) -> int:
    """Wait at the gate until a stage of this run has succeeded; return the exit code."""
    from jobrelay_runner.order.gate import wait

    try:
        specification, _, folder = _settings(environment)
        return wait(specification.stage(stage).hash, folder, stage)
    except (StageError, ValueError) as error:
        print(f"wait {stage}: {error}", file=sys.stderr)
        return BadInput.exit_code


def unpack(environment: Mapping[str, str] = os.environ) -> int:
    """Put the code into the workspace, for mounts that need its files; return the exit code."""
    from jobrelay_runner.command import code, workspace

    try:
        specification, config, folder = _settings(environment)
        if specification.code and not workspace.has_code(folder, specification.code):
            folder.workspace.mkdir(parents=True, exist_ok=True)
            code.unpack(folder, read_code(specification, config, folder), specification.code)
    except (StageError, ValueError, OSError) as error:
        print(f"unpack: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, StageError) else BadInput.exit_code
    return 0


def _settings(environment: Mapping[str, str]) -> tuple[Specification, Path, RunFolder]:
    """Return the pipeline, its file, and the run's folder. Raises BadInput, ValueError."""
    missing = [name for name in (ENV_CONFIG, ENV_RUN, ENV_VOLUME) if not environment.get(name)]
    if missing:
        raise BadInput(f"{', '.join(missing)}: not set; the launcher's manifests set it")
    config = Path(environment[ENV_CONFIG])
    folder = RunFolder(Path(environment[ENV_VOLUME]).absolute(), check_name(environment[ENV_RUN], "run id"))
    return read_specification(config), config, folder


def read_code(specification: Specification, config: Path, folder: RunFolder) -> bytes:
    """Return the code's archive. Raises BadInput."""
    from jobrelay_runner.command.code import read_archive  # imports tarfile, which later stages do not need

    return read_archive(specification.code or "", config, folder.root)

"""python -m jobrelay_train [run-all] | train | eval | infer | wait STAGE

The configuration is validated before anything is created or changed. Configuration errors print one line
per key on standard error; the exit code is 78.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Final, NoReturn

from jobrelay_runner import exit_codes
from jobrelay_runner.errors import BadInput
from jobrelay_runner.stages import Stage
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
from jobrelay_train.config.loading import ConfigError, load_config
from jobrelay_train.config.schema import STAGES, RunConfig
from jobrelay_train.own.code import importable, with_code

#: A Pod's name is a DNS-1123 subdomain.
_POD_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError([f"{self.prog}: {message} (see {self.prog} --help)"])


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m jobrelay_train",
        description="One stage of a run, as it runs in a container; without a command, all of them.",
    )
    common = _Parser(add_help=False)
    common.add_argument("--run", default=_env(ENV_RUN), help=f"id of the run (else ${ENV_RUN})")
    common.add_argument(
        "--volume",
        type=Path,
        default=_volume(),
        help=f"the shared volume's folder (else ${ENV_VOLUME}; default: ./jobrelay-data)",
    )
    common.add_argument(
        "--config",
        type=Path,
        default=_path(ENV_CONFIG),
        help=f"YAML file (else ${ENV_CONFIG}; default: all defaults)",
    )
    common.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key, such as train.epochs=10",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("run-all", parents=[common], help="train, eval and infer, one after the other")
    commands.add_parser(
        "train", parents=[common], help="train the model: model.pt, history.jsonl, checkpoints"
    )
    commands.add_parser("eval", parents=[common], help="test the model: eval_results.json")
    commands.add_parser(
        "infer", parents=[common], help="classify images: predictions.json, inference.json, results/*.png"
    )
    gate = commands.add_parser("wait", parents=[common], help="wait until a stage of this run has succeeded")
    gate.add_argument("stage", choices=STAGES)
    return parser


def main(argv: list[str]) -> int:
    """Run the command in the arguments, with the environment's settings; return the exit code."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv = ["run-all", *argv]
    termination = _path(ENV_TERMINATION)
    try:
        arguments = _parser().parse_args(argv)
        config = load_config(arguments.config, [in_full(text, arguments.command) for text in arguments.set])
        folder = RunFolder(arguments.volume.absolute(), _run_id(arguments.run))
        config = with_code(config)
        pod = _pod_name(_env(ENV_POD) or "local")
        index = _index(config.train.nodes) if arguments.command == "train" else 0
        after = _stage_before(_env(ENV_AFTER))
    except ConfigError as error:
        from jobrelay_runner.termination import leave_message

        print(error, file=sys.stderr)
        leave_message(termination, f"configuration error: {error}"[:1024])
        return exit_codes.BAD_CONFIG
    if arguments.command == "wait":
        from jobrelay_runner.order.gate import wait

        return wait(config.stage_hash(arguments.stage), folder, arguments.stage)
    if arguments.command == "run-all":
        from jobrelay_train.run_all import run_all

        return run_all(argv[1:], folder)
    from jobrelay_runner.order.gate import Gate
    from jobrelay_runner.supervisor import supervise
    from jobrelay_runner.termination import leave_message
    from jobrelay_train.program import program_of

    gate = Gate(config.stage_hash(after), folder, after) if after else None
    program = program_of(arguments.command, config)
    try:
        with importable(config, arguments.config, folder.root):
            return supervise(arguments.command, program, folder, pod, termination, index, gate)
    except BadInput as error:  # the code cannot be unpacked
        print(f"{arguments.command}: {error}", file=sys.stderr)
        leave_message(termination, f"{arguments.command}: {error}"[:1024])
        return error.exit_code


def in_full(override: str, command: str) -> str:
    """Return the full key: `epochs=10` of the command `train` is `train.epochs=10`."""
    key = override.partition("=")[0]
    short = command in STAGES and "." not in key and key not in RunConfig.model_fields
    return f"{command}.{override}" if short else override


def _env(name: str) -> str | None:
    return os.environ.get(name) or None


def _path(name: str) -> Path | None:
    text = _env(name)
    return Path(text) if text else None


def _volume() -> Path:
    return _path(ENV_VOLUME) or Path("jobrelay-data")


def _run_id(name: str | None) -> str:
    if name is None:
        raise ConfigError([f"--run: the run needs an id; give --run ID or set {ENV_RUN}"])
    try:
        return check_name(name, "--run")
    except ValueError as error:
        raise ConfigError([str(error)]) from error


def _index(nodes: int) -> int:
    """Return the index of this Pod among those that train together."""
    if nodes == 1:
        return 0
    text = _env(ENV_INDEX) or ""
    if not text.isdecimal() or int(text) >= nodes:
        raise ConfigError(
            [f"train.nodes: {nodes} Pods train together, and {ENV_INDEX}={text!r} is not the index "
             "of one; Kubernetes sets it in an Indexed Job, which the launcher creates"]
        )  # fmt: skip
    return int(text)


def _stage_before(name: str | None) -> Stage | None:
    known: dict[str | None, Stage] = {stage: stage for stage in STAGES}
    if name is not None and name not in known:
        raise ConfigError([f"{ENV_AFTER}: {name!r} is not one of {', '.join(STAGES)}"])
    return known.get(name)


def _pod_name(name: str) -> str:
    if not _POD_NAME.fullmatch(name):  # it becomes part of a file's name
        raise ConfigError([f"{ENV_POD}: {name!r} is not the name of a Pod"])
    return name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

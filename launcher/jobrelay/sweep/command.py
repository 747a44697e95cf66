"""The command `sweep`: from its arguments to a finished sweep and its report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobrelay.console import Console, print_table
from jobrelay.errors import BadInput, Exit, Terminated
from jobrelay.flags import SweepFlags
from jobrelay.hints import SameAgain
from jobrelay.report.ending import keep_sweep_report
from jobrelay.runs.relay import Interrupted
from jobrelay.runs.request import RunRequest
from jobrelay.runs.target import Target
from jobrelay.sweep.design import (
    VALIDATION_SPLIT,
    Axis,
    Trial,
    all_combinations,
    at_random,
    name_of,
    one_at_a_time,
    parse_axis,
    with_seeds,
)
from jobrelay.sweep.running import Condition
from jobrelay.sweep.table import Row, to_csv
from jobrelay.sweep.trial import Trials
from jobrelay.sweep.whole import Sweep, carry_out, check
from jobrelay_runner.volume.paths import check_name
from jobrelay_train.config.schema import RunConfig

#: A run's id has at most 40 characters; a trial's ends in a hyphen and six characters.
_NAME_LENGTH = 33


def run_sweep(target: Target, console: Console, flags: SweepFlags) -> int:
    """Run a sweep. Returns exit code 0 if all started trials succeeded, else 1.

    Raises BadInput, Interrupted.
    """
    config, is_base = _configured_by(target, flags)
    if flags.choose_on == "validation" and not config.train.validation_split:
        held_out = f"train.validation_split={VALIDATION_SPLIT}"
        flags = replace(flags, overrides=(*flags.overrides, held_out))
        config, is_base = _configured_by(target, flags)
    sweep = designed(config, is_base, flags)
    how = Trials(
        target=target,
        config_file=flags.config_file,
        overrides=flags.overrides,
        request=RunRequest(namespace=target.namespace, image=target.image, timeout_seconds=flags.timeout),
        folder=Path("sweeps") / sweep.name,
    )
    condition = Condition.parse(flags.stop_when) if flags.stop_when else None
    if flags.dry_run:
        check(sweep, how)
        print_table(
            [*sweep.keys, "seed", "run"],
            [[*_settings(sweep, trial), str(trial.seed), run] for trial, run in sweep.named()],
        )
        return Exit.SUCCEEDED
    try:
        rows = carry_out(sweep, how, console, at_once=flags.max_parallel, stop_when=condition)
    except (KeyboardInterrupt, Terminated) as interrupt:
        code = Exit.TERMINATED if isinstance(interrupt, Terminated) else Exit.INTERRUPTED
        raise Interrupted(
            f"detached; the Jobs of sweep {sweep.name} that were started continue, "
            "and the same command re-attaches to them",
            SameAgain(),
            code,
        ) from None
    if flags.output == "csv":
        sys.stdout.write(to_csv(rows))
    else:
        columns = [*sweep.keys, "seed", "val acc", "test acc", "training", "run", ""]
        print_table(columns, [_cells(sweep, row) for row in rows])
    console.say(f"sweep.csv, sweep.log, observations.txt, plots/ and runs/ are in {how.folder}/")
    keep_sweep_report(how.folder, console)
    return Exit.SUCCEEDED if all(row.status == "succeeded" for row in rows) else Exit.FAILED


def _configured_by(target: Target, flags: SweepFlags) -> tuple[RunConfig, bool]:
    """The configuration that all trials share, and whether it is valid by itself. Raises BadInput.

    If it is not, a grid may set the missing keys: the first trial then takes its place.
    """
    try:
        return target.built_in(flags.config_file, flags.overrides), True
    except BadInput:
        if flags.one_at_a_time:
            raise  # its trials differ from this configuration in one key only
        first = [axis.first for axis in map(parse_axis, flags.axes)]
        return target.built_in(flags.config_file, [*flags.overrides, *first]), False


def designed(config: RunConfig, is_base: bool, flags: SweepFlags) -> Sweep:
    """The requested trials. is_base: `config` contains none of their values. Raises BadInput."""
    axes = [parse_axis(text) for text in flags.axes]
    if len({axis.key for axis in axes}) < len(axes):
        raise BadInput("--grid: a key is given twice", "--grid KEY=A,B,C")
    if any(axis.key == "seed" for axis in axes):
        raise BadInput("--grid seed: seeds are not an axis, they repeat a trial", "--seeds N")
    if flags.one_at_a_time and flags.count:
        raise BadInput("--one-at-a-time and --random exclude each other", "one of the two")
    base = {axis.key: _configured(config, axis) for axis in axes} if flags.one_at_a_time else None
    if base:
        points = one_at_a_time(axes, base)
    elif flags.count:
        points = at_random(axes, flags.count, config.seed)
    else:
        points = all_combinations(axes)
    trials = tuple(with_seeds(points, config.seed, flags.seeds))
    shared = config.result_config()
    if not is_base:
        for axis in axes:
            _drop(shared, axis.key)
    return Sweep(_name(flags.name, trials, config), trials, shared, base, flags.choose_on)


def _drop(tree: dict[str, Any], key: str) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.get(parent, {})
    tree.pop(leaf, None)  # keys of placement are absent


def _configured(config: RunConfig, axis: Axis) -> Any:
    value: Any = config
    for part in axis.key.split("."):
        if not hasattr(value, part):
            raise BadInput(f"--grid {axis.key}: unknown key", "keys are written as in --set: train.epochs")
        value = getattr(value, part)
    return value


def _name(name: str | None, trials: Sequence[Any], config: RunConfig) -> str:
    if name is None:
        return name_of(trials, config.model_dump(mode="json"))
    try:
        check_name(name, "--name")
    except ValueError as error:
        raise BadInput(str(error)) from error
    if len(name) > _NAME_LENGTH:
        raise BadInput(f"--name {name}: {_NAME_LENGTH} characters at most")
    return name


def _settings(sweep: Sweep, trial: Trial) -> list[str]:
    settings = dict(trial.settings)
    return [str(settings.get(key, "")) for key in sweep.keys]


def _cells(sweep: Sweep, row: Row) -> list[str]:
    seconds = row.figures.get("train_seconds")
    return [
        *_settings(sweep, row.trial),
        str(row.trial.seed),
        *(f"{row.figures[name]:.4f}" if name in row.figures else "" for name in ("val_acc", "test_acc")),
        f"{seconds:.1f} s" if seconds is not None else "",
        row.run,
        "" if row.status == "succeeded" else f"{row.status}: {row.cause}",
    ]

"""The command `sweep`: from its arguments to a finished sweep and its report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jobrelay.console import Console, print_table
from jobrelay.errors import BadInput, Exit, Terminated
from jobrelay.flags import SweepFlags
from jobrelay.hints import SameAgain
from jobrelay.report.ending import keep_sweep_report
from jobrelay.runs.relay import Interrupted
from jobrelay.runs.request import RunRequest
from jobrelay.runs.target import Target
from jobrelay.sweep.built_in import built_in
from jobrelay.sweep.design import (
    Trial,
    all_combinations,
    at_random,
    name_of,
    one_at_a_time,
    parse_axis,
    with_seeds,
)
from jobrelay.sweep.packing import Packing
from jobrelay.sweep.pipeline import Shown, SweptPipeline
from jobrelay.sweep.programs import programs
from jobrelay.sweep.table import Row, to_csv
from jobrelay.sweep.trial import Trials
from jobrelay.sweep.whole import Sweep, carry_out, check
from jobrelay_runner.volume.paths import check_name

#: A run's id has at most 40 characters; a trial's ends in a hyphen and six characters.
_NAME_LENGTH = 33


def run_sweep(target: Target, console: Console, flags: SweepFlags) -> int:
    """Run a sweep. Returns exit code 0 if all started trials succeeded, else 1.

    Raises BadInput, Interrupted.
    """
    pipeline = programs(target, target.pipeline, flags) if target.pipeline else built_in(target, flags)
    sweep = designed(pipeline, flags)
    how = Trials(
        pipeline=pipeline,
        request=RunRequest(namespace=target.namespace, image=target.image, timeout_seconds=flags.timeout),
        folder=Path("sweeps") / sweep.name,
    )
    condition = pipeline.condition(flags.stop_when) if flags.stop_when else None
    packing = _packing(pipeline, flags)
    if flags.dry_run:
        check(sweep, how)
        print_table(
            [*sweep.headings, "run"], [[*_settings(sweep, trial), run] for trial, run in sweep.named()]
        )
        return Exit.SUCCEEDED
    try:
        rows = carry_out(sweep, how, console, packing=packing, stop_when=condition)
    except (KeyboardInterrupt, Terminated) as interrupt:
        code = Exit.TERMINATED if isinstance(interrupt, Terminated) else Exit.INTERRUPTED
        raise Interrupted(
            f"detached; the Jobs of sweep {sweep.name} that were started continue, "
            "and the same command re-attaches to them",
            SameAgain(),
            code,
        ) from None
    if flags.output == "csv":
        sys.stdout.write(to_csv(rows, pipeline.columns(rows)))
    else:
        figures = pipeline.shown(rows)
        columns = [*sweep.headings, *(figure.heading for figure in figures), "run", ""]
        print_table(columns, [_cells(sweep, row, figures) for row in rows])
    console.say(f"sweep.csv, sweep.log, observations.txt, plots/ and runs/ are in {how.folder}/")
    keep_sweep_report(how.folder, console)
    return Exit.SUCCEEDED if all(row.status == "succeeded" for row in rows) else Exit.FAILED


def _packing(pipeline: SweptPipeline, flags: SweepFlags) -> Packing:
    """How trials share Jobs. Raises BadInput for trials that cannot, and are asked to."""
    why = pipeline.why_not_packed()
    if why and (flags.pack or 1) > 1:
        raise BadInput(f"--pack {flags.pack}: {why}", "leave out --pack")
    # a pack has all its trials started before the first one's result is known
    return Packing(
        flags.max_parallel, flags.pack, possible=not why and not (flags.stop_when and not flags.pack)
    )


def designed(pipeline: SweptPipeline, flags: SweepFlags) -> Sweep:
    """The requested trials. Raises BadInput."""
    axes = [parse_axis(text) for text in flags.axes]
    if len({axis.key for axis in axes}) < len(axes):
        raise BadInput("--grid: a key is given twice", "--grid KEY=A,B,C")
    if any(axis.key == "seed" for axis in axes):
        raise BadInput("--grid seed: seeds are not an axis, they repeat a trial", "--seeds N")
    if flags.one_at_a_time and flags.count:
        raise BadInput("--one-at-a-time and --random exclude each other", "one of the two")
    if flags.seeds > 1 and pipeline.first_seed is None:
        raise BadInput(
            "--seeds: the pipeline has no parameter `seed` with a whole number",
            "params: {seed: 0}, and {seed} in the command of a stage",
        )
    pipeline.check_axes(axes)
    base = {axis.key: pipeline.value(axis) for axis in axes} if flags.one_at_a_time else None
    if base:
        points = one_at_a_time(axes, base)
    elif flags.count:
        points = at_random(axes, flags.count, pipeline.first_seed or 0)
    else:
        points = all_combinations(axes)
    trials = tuple(with_seeds(points, pipeline.first_seed, flags.seeds))
    return Sweep(_name(flags.name, trials, pipeline), trials, pipeline.shared(axes), base)


def _name(name: str | None, trials: Sequence[Trial], pipeline: SweptPipeline) -> str:
    if name is None:
        return name_of(trials, pipeline.naming())
    try:
        check_name(name, "--name")
    except ValueError as error:
        raise BadInput(str(error)) from error
    if len(name) > _NAME_LENGTH:
        raise BadInput(f"--name {name}: {_NAME_LENGTH} characters at most")
    return name


def _settings(sweep: Sweep, trial: Trial) -> list[str]:
    return [str(trial.values.get(key, "")) for key in sweep.headings]


def _cells(sweep: Sweep, row: Row, figures: Sequence[Shown]) -> list[str]:
    return [
        *_settings(sweep, row.trial),
        *(
            figure.format.format(row.figures[figure.column]) if figure.column in row.figures else ""
            for figure in figures
        ),
        row.run,
        "" if row.status == "succeeded" else f"{row.status}: {row.cause}",
    ]

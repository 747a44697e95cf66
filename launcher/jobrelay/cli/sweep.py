"""The command `sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobrelay.cli.options import config_options, output_option, target_options
from jobrelay.cli.own_stages import with_folders, with_images
from jobrelay.cli.typed import Subcommand
from jobrelay.errors import BadInput
from jobrelay.flags import SweepFlags, gathered

if TYPE_CHECKING:
    from jobrelay.console import Console
    from jobrelay.runs.target import Target


@click.command(cls=Subcommand)
@click.option("--grid", "axes", multiple=True, required=True, metavar="KEY=A,B,…", help="Values to try.")
@click.option("--one-at-a-time", is_flag=True, help="Vary one key at a time, the others as configured.")
@click.option(
    "--random",
    "count",
    type=click.IntRange(min=1),
    help="Draw this many points of the grid; allows ranges A..B.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Trials per point.")
@click.option(
    "--max-parallel", type=click.IntRange(min=1), default=1, show_default=True, help="Trials at a time."
)
@click.option(
    "--pack", type=click.IntRange(min=1, max=100),
    help="Own stages: trials that share a Job, one after the other.  [default: a minute's worth of them]",
)  # fmt: skip
@click.option(
    "--stop-when", metavar="CONDITION", help="Start no further trial once one meets it: val_acc>=0.99."
)
@click.option(
    "--choose-on", metavar="METRIC",
    help="What the best trial is chosen by. Own stages: METRIC or STAGE.METRIC  [default: the first of the "
    "last stage with metrics]. Built-in programs: validation, the accuracy on held-out training images "
    "(train.validation_split, a tenth unless set), or test, to repeat a published table  "
    "[default: validation].",
)  # fmt: skip
@click.option(
    "--minimize/--maximize",
    default=None,
    help="Whether a smaller METRIC is better.  [default: if its name has loss, error or perplexity]",
)
@click.option(
    "--name", help="Name of the sweep, and of its folder in sweeps/.  [default: from what it tries]"
)
@click.option("--dry-run", is_flag=True, help="Print the trials; create nothing.")
@config_options
@output_option("table", "csv")
@target_options
@gathered(SweepFlags)
def sweep(target: Target, console: Console, flags: SweepFlags) -> int:
    """Run many configurations; write one table and plots."""
    from jobrelay.sweep.command import run_sweep

    if flags.run_id:
        raise BadInput("--run: each trial of a sweep has a run of its own", "--name names the sweep")
    target = with_images(with_folders(target, flags), flags, console)
    return run_sweep(target, console, flags)

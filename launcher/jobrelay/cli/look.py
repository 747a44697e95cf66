"""The subcommands for existing runs: inspect, fetch, cancel and delete them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobrelay.cli.options import output_option, target_options
from jobrelay.cli.typed import Subcommand
from jobrelay.errors import BadInput, Exit
from jobrelay_runner.text.counting import counted

if TYPE_CHECKING:
    from jobrelay.console import Console
    from jobrelay.runs.target import Target
    from jobrelay_runner.stages import Stage

_PATH = click.Path(path_type=Path)


@click.command(cls=Subcommand)
@click.argument("run", required=False)
@output_option("table", "json")
@target_options
def status(target: Target, console: Console, run: str | None, output: str) -> int:
    """Show the state of a run's stages; with -v also where their time went. [default: the newest run]"""
    from jobrelay.runs import status as overview

    run = _run_id(run) if run else None
    states = overview.status(target.executor(), run)
    _print(output, overview.COLUMNS, [state.row() for state in states], [asdict(state) for state in states])
    if console.verbose and output == "table":
        from jobrelay.cli.summary import print_timelines

        print_timelines({state.stage: state.timeline for state in states if state.stage})
    return Exit.SUCCEEDED


@click.command("list", cls=Subcommand)
@click.option(
    "--recorded", is_flag=True, help="Also runs whose Jobs are gone, from their records on the volume."
)
@output_option("table", "json", "name")
@target_options
def list_runs(target: Target, console: Console, recorded: bool, output: str) -> int:
    """List the runs, newest last."""
    from jobrelay.runs import status as overview

    find = overview.all_stages if recorded or target.local else overview.stages_of
    states = find(target.executor(), None)
    rows = overview.run_rows(states)
    if output == "name":
        click.echo("".join(f"{row[0]}\n" for row in rows), nl=False)
    else:
        _print(output, overview.RUN_COLUMNS, rows, [asdict(state) for state in states])
    return Exit.SUCCEEDED


@click.command(cls=Subcommand)
@click.argument("run", required=False)
@click.argument("stage", required=False)
@click.option("-f", "--follow", is_flag=True, help="Keep printing until the stage ends.")
@click.option("--tail", type=click.IntRange(min=0), help="Only the last lines.")
@partial(target_options, file=["--file"])
def logs(
    target: Target, console: Console, run: str | None, stage: Stage | None, follow: bool, tail: int | None
) -> int:
    """Print the logs of stages. [default: all stages of the newest run]"""
    from jobrelay.runs import earlier_logs
    from jobrelay.terminal import log_output

    run = _run_id(run) if run else None
    with log_output() as out:
        earlier_logs.print_logs(target.executor(), run, stage, follow=follow, tail=tail, out=out)
    return Exit.SUCCEEDED


@click.command(cls=Subcommand)
@click.argument("run", required=False)
@click.option("-o", "--output", "folder", type=_PATH, help="Folder to copy to.  [default: runs/RUN]")
@click.option("--all", "everything", is_flag=True, help="Checkpoints too.")
@target_options
def fetch(target: Target, console: Console, run: str | None, folder: Path | None, everything: bool) -> int:
    """Copy a run's results and logs from the volume. [default: the newest run]"""
    from jobrelay.runs import results
    from jobrelay.runs import status as overview

    run = _run_id(run) if run else None
    executor = target.executor()
    run = run or overview.newest_run(executor)
    fetched = results.fetch(executor, run, folder or Path("runs") / run, everything=everything)
    click.echo(f"{fetched.folder}: {counted(fetched.files, 'file')}, {counted(fetched.bytes, 'byte')}")
    for problem in fetched.problems:
        console.say(f"  {problem}")
    return Exit.INCOMPLETE if fetched.problems else Exit.SUCCEEDED


@click.command(cls=Subcommand)
@click.argument("name", metavar="[RUN|SWEEP]", required=False)
@click.option(
    "-o", "--output", "file", type=_PATH, help="File to write.  [default: report.html in its folder]"
)
@target_options
def report(target: Target, console: Console, name: str | None, file: Path | None) -> int:
    """Write one HTML page about a run or a sweep. [default: the newest run]"""
    from jobrelay.report.command import make_report

    click.echo(make_report(target, console, name, file))
    return Exit.SUCCEEDED


@click.command(cls=Subcommand)
@click.argument("run", required=False)
@output_option("table", "json")
@target_options
def verify(target: Target, console: Console, run: str | None, output: str) -> int:
    """Check that a run is complete on the volume: stages, checkpoint, results. [default: the newest run]"""
    from jobrelay.console import print_json
    from jobrelay.runs import results
    from jobrelay.runs import status as overview

    run = _run_id(run) if run else None
    executor = target.executor()
    checks = results.check(executor, run or overview.newest_run(executor))
    rows = [("✓" if check.good else "✗", check.what, check.found) for check in checks]
    _print(output, ("", "check", "found"), rows, [check.to_dict() for check in checks])
    if output == "table":
        for content in filter(None, (check.content for check in checks)):
            print_json({key: value for key, value in content.items() if not isinstance(value, list)})
    return Exit.SUCCEEDED if all(check.good for check in checks) else Exit.INCOMPLETE


@click.command(cls=Subcommand)
@click.argument("run")
@target_options
def cancel(target: Target, console: Console, run: str) -> int:
    """Delete the unfinished Jobs of a run; train saves a checkpoint first."""
    from jobrelay.api import Relay

    names = Relay(on=target).cancel(run)
    click.echo("".join(f"Job {name} cancelled\n" for name in names), nl=False)
    if not names:
        console.say(f"no Job of run {run} is running")
    return Exit.SUCCEEDED


@click.command(cls=Subcommand)
@click.argument("run")
@click.option("--data", is_flag=True, help="Its files on the volume too.")
@target_options
def delete(target: Target, console: Console, run: str, data: bool) -> int:
    """Delete the Jobs of a run; with --data also its files on the volume."""
    from jobrelay.api import Relay

    deleted = Relay(on=target).delete(run, data=data)
    click.echo("".join(f"{what} deleted\n" for what in deleted), nl=False)
    return Exit.SUCCEEDED


@click.command(cls=Subcommand)
@output_option("table", "json")
@target_options
def doctor(target: Target, console: Console, output: str) -> int:
    """Check what a run needs, and report how to fix what is missing."""
    findings = target.executor().examine(target.manifests)
    marks = {"ok": "✓", "warn": "!", "fail": "✗"}
    todos = [console.complete(f.todo) for f in findings]
    rows = [(marks[f.state], f.check, f.found, todo) for f, todo in zip(findings, todos, strict=True)]
    tree = [{**asdict(f), "todo": todo} for f, todo in zip(findings, todos, strict=True)]
    _print(output, ("", "check", "found", "what to do"), rows, tree)
    return Exit.BAD_INPUT if any(f.state == "fail" for f in findings) else Exit.SUCCEEDED


def _run_id(name: str, what: str = "run id") -> str:
    from jobrelay_runner.volume.paths import check_name

    try:
        return check_name(name, what)
    except ValueError as error:
        raise BadInput(str(error)) from error


def _print(output: str, columns: Sequence[str], rows: Sequence[Sequence[str]], tree: Any) -> None:
    from jobrelay.console import print_json, print_table

    print_json(tree) if output == "json" else print_table(columns, rows)


#: The commands that cli.main adds to its group.
ALL = (status, list_runs, logs, fetch, report, verify, cancel, delete, doctor)

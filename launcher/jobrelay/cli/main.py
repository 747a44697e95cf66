"""The command line: a subcommand parses, makes one library call, prints, returns an exit code."""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobrelay.cli import look
from jobrelay.cli.data import data, put
from jobrelay.cli.images import images
from jobrelay.cli.options import config_options, output_option, run_options, target_options
from jobrelay.cli.own_stages import with_folders, with_images
from jobrelay.cli.sweep import sweep
from jobrelay.cli.typed import Group, completed
from jobrelay.errors import BadInput, Exit, JobRelayError, Terminated
from jobrelay.flags import ConfigFlags, RunFlags, gathered
from jobrelay.hints import Command as HintCommand
from jobrelay_runner import __version__
from jobrelay_runner.text.redaction import redacted

if TYPE_CHECKING:
    from jobrelay.console import Console
    from jobrelay.runs.target import Target
    from jobrelay_runner.stages import Stage

_PATH = click.Path(path_type=Path)
#: Words that start this launcher from any folder.
_ANYWHERE = (sys.executable, str(Path(__file__).resolve().parents[2]))


def main(argv: Sequence[str], program: Sequence[str] = _ANYWHERE) -> int:
    """Run a command line; return the exit code (see jobrelay.errors).

    program: the words before `argv`; hints use them to start the launcher again.
    """
    from jobrelay.console import libraries_heard

    arguments = list(argv)
    quiet, verbose = bool({"-q", "--quiet"} & set(arguments)), bool({"-v", "--verbose"} & set(arguments))
    with libraries_heard(quiet=quiet, verbose=verbose):
        return _main(arguments, program, verbose)


def _main(arguments: list[str], program: Sequence[str], verbose: bool) -> int:
    from jobrelay.console import Console, show_traceback

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        code = cli.main(arguments, prog_name=shlex.join(program), standalone_mode=False, obj=tuple(program))
        sys.stdout.flush()
        return int(code or 0)
    except click.ClickException as error:
        error.message = redacted(error.message)  # type: ignore[misc]  # shown below, and nowhere else
        error.show()
        if isinstance(error, click.NoSuchOption) and (meant := _as_setting(error, program, arguments)):
            from jobrelay.console import Console

            Console().hint(meant)
        return Exit.BAD_INPUT
    except JobRelayError as error:
        if verbose:
            show_traceback(error)
        Console().error(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except Terminated:
        return Exit.TERMINATED
    except (BrokenPipeError, SystemExit) as error:  # click turns the former into the latter
        if isinstance(error, SystemExit) and not error.code:  # also raised after shell completion
            return Exit.SUCCEEDED
        # the reader of stdout is gone; the interpreter must not flush it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.INCOMPLETE
    except Exception as error:  # a bug, or a fault of the machine; a traceback only with -v
        if verbose:
            show_traceback(error)
        what = f"{type(error).__name__}: {error}"
        Console().error(
            JobRelayError(what, "the same command with -v shows where; Jobs that were created continue")
        )
        return Exit.FAILED


def _on_sigterm(number: int, frame: object) -> None:
    raise Terminated


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="jobrelay")
def cli() -> None:
    """Train, evaluate and infer with PyTorch as Kubernetes Jobs that share one volume."""


cli.add_command(images)
cli.add_command(sweep)
cli.add_command(put)
cli.add_command(data)
for _command in look.ALL:
    cli.add_command(_command)


@cli.command("run-all")
@click.argument("stages", nargs=-1, metavar="[STAGE]…")
@run_options
@target_options
@gathered(RunFlags)
def run_all(stages: tuple[str, ...], target: Target, console: Console, flags: RunFlags) -> int:
    """Run all stages in order, or those that you name, and fetch the results.

    Of a compose file, name services.
    """
    _point_at_compose_file(target, console)
    of_services = target.pipeline is not None and target.pipeline.is_compose
    return _run(() if of_services else stages, target, console, flags)


def _point_at_compose_file(target: Target, console: Console) -> None:
    """Say that a compose file of the current folder is not what runs."""
    from jobrelay import manifests
    from jobrelay.pipelines.init import compose_file

    if target.pipeline is None and target.kustomization == manifests.BASE and (file := compose_file(Path())):
        console.say(f"this runs the built-in pipeline; for the services of {file.name}: -f {file.name}")


@cli.command()
@click.argument("words", nargs=-1, required=True, metavar="STAGE | -- COMMAND …")
@run_options
@target_options
@gathered(RunFlags)
def run(words: tuple[str, ...], target: Target, console: Console, flags: RunFlags) -> int:
    """Run one stage of a run, or a command on the files of this folder: run -- python main.py --epochs 3."""
    if not _is_command(words):
        if Path(words[0]).is_file() and words[0] not in target.manifests.jobs:
            starts = ("python",) if words[0].endswith(".py") else ("sh",)
            raise BadInput(f"{words[0]} is a file, not a stage", HintCommand("run", "--", *starts, words[0]))
        return _run(words, target, console, flags)
    from jobrelay.pipelines.single import pipeline_of_command

    pipeline = pipeline_of_command(words, Path.cwd(), target.pipeline)
    return _run((), replace(target, pipeline=pipeline), console, flags)


def _is_command(words: Sequence[str]) -> bool:
    """Whether the words stand after `--`, which click has removed, and are not one stage's name."""
    return len(words) > 1 or "--" in sys.argv


@cli.command()
@config_options
@target_options
@gathered(ConfigFlags)
def render(target: Target, console: Console, flags: ConfigFlags) -> int:
    """Print the manifests of a run for kubectl; create nothing."""
    from jobrelay import manifests

    target = with_folders(target, flags)
    config = target.config(flags.config_file, flags.overrides)
    plan = manifests.render(
        target.manifests_for(config), config, flags.run_id or manifests.new_run_id(),
        namespace=target.namespace, image=target.image, timeout_seconds=flags.timeout,
    )  # fmt: skip
    click.echo(manifests.to_yaml(plan.objects()), nl=False)
    return Exit.SUCCEEDED


@cli.command()
@click.argument("name", metavar="RUN")
@output_option("table", "json")
@target_options
def attach(name: str, target: Target, console: Console, output: str) -> int:
    """Follow the Jobs of a run, verify them, and fetch the results."""
    from jobrelay.api import Relay
    from jobrelay.cli.summary import print_report
    from jobrelay.report.ending import keep_report

    report = Relay(on=target, folder="runs").attach(name, progress=console)
    keep_report(report, console)
    print_report(report, output=output, console=console)
    return report.exit_code


@cli.command()
@click.option("--schema", is_flag=True, help="Print the JSON schema of jobrelay.yaml; write nothing.")
def init(schema: bool) -> int:
    """Write a jobrelay.yaml for the scripts in this folder."""
    from jobrelay.cli.options import FILE
    from jobrelay.console import Console
    from jobrelay.pipelines.init import compose_file, written_for

    if schema:
        from jobrelay.pipelines import schema as schemas

        click.echo(schemas.schema(), nl=False)
        return Exit.SUCCEEDED
    path = Path(FILE)
    if path.exists():
        raise BadInput(f"{path} is here already", "change it, or move it away")
    if compose := compose_file(Path.cwd()):
        raise BadInput(f"{compose.name} says already what to run", HintCommand("run-all", "-f", compose.name))
    path.write_text(written_for(Path.cwd()), encoding="utf-8")
    console = Console(complete=functools.partial(completed, click.get_current_context()))
    console.say(
        f"{path} is written; look at its stages, then: {console.complete(HintCommand('run-all', '--local'))}"
    )
    return Exit.SUCCEEDED


def _run(stages: Sequence[Stage], target: Target, console: Console, flags: RunFlags) -> int:
    from jobrelay import manifests
    from jobrelay.api import Relay
    from jobrelay.cli.summary import print_report
    from jobrelay.report.ending import keep_report
    from jobrelay.runs.request import RunRequest
    from jobrelay.verdicts import Patience

    target = with_images(with_folders(target, flags), flags, console)
    config = target.config(flags.config_file, flags.overrides)
    for note in target.manifests.notes:
        console.say(note)
    request = RunRequest(
        run=flags.run_id,
        timeout_seconds=flags.timeout,
        patience=Patience(
            queue=flags.queue_timeout, schedule=flags.schedule_timeout, start=flags.start_timeout
        ),
        stages=stages,
        new=flags.new,
        replace="always" if flags.replace else "if-later",
        fetch=not flags.no_fetch,
        cancel_on_interrupt=flags.cancel_on_interrupt,
        early=flags.early,
        ttl_seconds=flags.ttl,
    )
    if flags.dry_run:
        from jobrelay.runs.preview import preview

        shown = preview(target, config, target.placed(request, config), console)
        for text in shown.lines:
            console.say(text)
        click.echo(manifests.to_yaml(shown.objects) if shown.objects else "", nl=False)
        return Exit.SUCCEEDED
    if target.local and any(config.placement(stage).autosize for stage in stages or target.manifests.jobs):
        console.say("autosize has no effect: processes on this machine have no requests and no limits")
    if flags.detach:
        run = Relay(on=target, folder="runs").send(config, request, console)
        follow = console.complete(HintCommand("attach", run))
        console.say(f"the stages follow each other without this launcher; to follow them: {follow}")
        click.echo(run)
        return Exit.SUCCEEDED
    report = Relay(on=target, folder="runs").carry_out(config, request, console, _import_while_waiting)
    keep_report(report, console)
    print_report(report, output=flags.output, console=console)
    return report.exit_code


def _import_while_waiting(step: str, stage: str) -> None:
    """Import what the end of the run needs while the next stage already works, so that it costs no time."""
    if step == "log":
        threading.Thread(target=_import_for_the_end, name="imports").start()


def _import_for_the_end() -> None:
    import rich.table  # noqa: F401

    from jobrelay.report.ending import prepare

    prepare()


def _as_setting(error: click.NoSuchOption, program: Sequence[str], arguments: Sequence[str]) -> str:
    """`--epochs 3` → `--set train.epochs=3`, which the launcher accepts; "" if no key matches."""
    from jobrelay_train.config.loading import keys_named

    takes = {name for parameter in error.ctx.command.params for name in parameter.opts} if error.ctx else ()
    keys = keys_named(error.option_name.lstrip("-").replace("-", "_"))
    if "--set" not in takes or not keys:
        return ""
    place = [word.partition("=")[0] for word in arguments].index(error.option_name)
    _, equals, value = arguments[place].partition("=")
    after = arguments[place + 1 :]
    if not equals:
        value, after = (after[0], after[1:]) if after else ("VALUE", [])
    if len(keys) > 1:
        return ", or ".join(f"--set {key}={value}" for key in keys)
    return shlex.join([*program, *arguments[:place], "--set", f"{keys[0]}={value}", *after])

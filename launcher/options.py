"""Options that several subcommands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

_PATH = click.Path(path_type=Path)


def target_options(command: Command) -> Command:
    """The options that say where; they reach the command as one `target`, and as `console`."""
    options = [
        click.option("--local", is_flag=True, help="Run as processes on this machine, without a cluster."),
        click.option(
            "--volume", type=_PATH, default="jobrelay-data", show_default=True,
            help="With --local: the folder that stands for the PersistentVolumeClaim.",
        ),
        click.option("--context", help="Context of the kubeconfig.  [default: the current one]"),
        click.option("-n", "--namespace", help="Namespace.  [default: the manifests']"),
        click.option(
            "-k", "--kustomize", "kustomization", type=_PATH,
            help="Folder with a kustomization.yaml.  [default: k8s/base]",
        ),
        click.option("--image", help="Image of the stages, in place of the manifests'."),
        click.option("-q", "--quiet", is_flag=True, help="Only errors and results."),
        click.option("-v", "--verbose", is_flag=True, help="Also what is waited for; tracebacks."),
    ]  # fmt: skip

    @functools.wraps(command)
    def with_target(quiet: bool, verbose: bool, kustomization: Path | None, **others: Any) -> Any:
        from launcher import manifests
        from launcher.console import Console
        from launcher.target import Target

        where = {key: others.pop(key) for key in ("local", "volume", "context", "namespace", "image")}
        target = Target(kustomization=kustomization or manifests.BASE, **where)
        return command(target=target, console=Console(quiet=quiet, verbose=verbose), **others)

    return _decorated(with_target, options)


def run_options(command: Command) -> Command:
    """What a run may be told; it reaches the command as keyword arguments."""
    seconds = click.IntRange(min=1)
    options = [
        click.option(
            "--run", "run_id", help="Id of the run.  [default: the newest equal run, else a new one]"
        ),
        click.option("--new", is_flag=True, help="A new run, even where an equal one is there."),
        click.option(
            "--config", "config_file", type=_PATH, help="YAML file.  [default: the manifests' config.yaml]"
        ),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Such as train.epochs=10."
        ),
        click.option("--timeout", type=seconds, help="Seconds that one attempt of a stage may run."),
        click.option(
            "--queue-timeout", type=seconds, default=3600, show_default=True, help="Seconds suspended."
        ),
        click.option(
            "--schedule-timeout", type=seconds, default=300, show_default=True, help="Seconds unscheduled."
        ),
        click.option(
            "--start-timeout",
            type=seconds,
            default=600,
            show_default=True,
            help="Seconds from node to start.",
        ),
        click.option("--no-fetch", is_flag=True, help="Leave the results on the volume."),
        click.option(
            "--cancel-on-interrupt", is_flag=True, help="Ctrl-C deletes what runs, and does not detach."
        ),
        click.option("--dry-run", is_flag=True, help="Print what would be sent; touch nothing."),
        output_option("table", "json"),
    ]
    return _decorated(command, options)


def output_option(*formats: str) -> Command:
    """-o: the first format is the default."""
    return click.option("-o", "--output", type=click.Choice(formats), default=formats[0], show_default=True)


def config_options(command: Command) -> Command:
    """The configuration alone (render)."""
    options = [
        click.option("--run", "run_id", help="Id of the run.  [default: a new one]"),
        click.option(
            "--config", "config_file", type=_PATH, help="YAML file.  [default: the manifests' config.yaml]"
        ),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Such as train.epochs=10."
        ),
        click.option(
            "--timeout", type=click.IntRange(min=1), help="Seconds that one attempt of a stage may run."
        ),
    ]
    return _decorated(command, options)


def _decorated(command: Command, options: list[Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command

"""Options that several subcommands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from jobrelay.errors import BadInput

Function = Callable[..., Any]

#: The file with a user's own stages; without -f it is used if the current folder has it.
FILE: Final = "jobrelay.yaml"

_PATH = click.Path(path_type=Path)
_SECONDS = click.IntRange(min=1)
#: Parameters that apply only to a cluster, with their options.
_CLUSTER = {"context": "--context", "namespace": "--namespace", "image": "--image"}
_WHERE = ("local", "volume", "context", "namespace", "image", "api_timeout")


def target_options(command: Function, *, file: Sequence[str] = ("-f", "--file")) -> Function:
    """Add the options that select the place; the command gets them as `target` and `console`.

    file: the names of one of them, for a command in which -f means something else.
    """
    options = [
        click.option("--local", is_flag=True, help="Run as processes on this machine, without a cluster."),
        click.option(
            "--volume", type=_PATH, default="jobrelay-data", show_default=True,
            help="With --local: the folder that stands for the PersistentVolumeClaim.",
        ),
        click.option(
            "--context", envvar="JOBRELAY_CONTEXT", show_envvar=True,
            help="Context of the kubeconfig.  [default: the current one]",
        ),
        click.option(
            "-n", "--namespace", envvar="JOBRELAY_NAMESPACE", show_envvar=True,
            help="Namespace.  [default: the manifests']",
        ),
        click.option(
            "-k", "--kustomize", "kustomization", type=_PATH,
            help="Folder with a kustomization.yaml.  [default: k8s/base]",
        ),
        click.option(
            *file, "definition", type=_PATH,
            help=f"A {FILE} or a compose file with your own stages.  [default: {FILE}, if it is here]",
        ),
        click.option(
            "--image", envvar="JOBRELAY_IMAGE", show_envvar=True,
            help="Image of the stages, in place of the manifests'.",
        ),
        click.option(
            "--api-timeout", type=_SECONDS,
            help="Seconds without an answer of the API server until it counts as lost (exit 5)."
            "  [default: 300; 5 for the first answer]",
        ),
        click.option("-q", "--quiet", is_flag=True, help="Only errors and results."),
        click.option(
            "-v", "--verbose", is_flag=True, help="Also waits, where the time went, tracebacks."
        ),
    ]  # fmt: skip

    @functools.wraps(command)
    def with_target(
        quiet: bool, verbose: bool, kustomization: Path | None, definition: Path | None, **others: Any
    ) -> Any:
        from jobrelay import manifests
        from jobrelay.cli.typed import completed
        from jobrelay.console import Console
        from jobrelay.pipelines.files import read_pipeline
        from jobrelay.resources import manifests_folder
        from jobrelay.runs.target import Target

        context = click.get_current_context()
        where = {key: others.pop(key) for key in _WHERE}
        _fit(context, where)
        complete = functools.partial(completed, context)
        console = Console(quiet=quiet, verbose=verbose, complete=complete)
        folder = manifests_folder(kustomization) if kustomization else manifests.BASE
        if definition and kustomization:
            raise BadInput("-f and -k cannot be used together", "-k is for manifests, -f for your own stages")
        here = Path(FILE)
        found = definition or (here if here.is_file() and not kustomization else None)
        named = context.params.get("stages") or ()  # of a compose file, the services that are stages
        pipeline = read_pipeline(found, console.say, local=where["local"], services=named) if found else None
        target = Target(kustomization=folder, pipeline=pipeline, say=console.say, **where)
        return command(target=target, console=console, **others)

    return _decorated(with_target, options)


def _fit(context: click.Context, where: dict[str, Any]) -> None:
    """Refuse options that contradict each other. Raises BadInput.

    With --local, environment variables for a cluster are ignored.
    """
    typed = [name for name in (*_CLUSTER, "volume") if _source(context, name) is ParameterSource.COMMANDLINE]
    if where["local"]:
        if unfit := [_CLUSTER[name] for name in typed if name in _CLUSTER]:
            raise BadInput(
                f"--local runs processes on this machine: {', '.join(unfit)} cannot be used with it",
                f"leave out {', '.join(unfit)}, or --local",
            )
        where.update(dict.fromkeys(_CLUSTER))
    elif "volume" in typed:
        raise BadInput("--volume is for runs on this machine", "add --local, or leave --volume out")


def _source(context: click.Context, name: str) -> ParameterSource | None:
    return context.get_parameter_source(name)


def config_options(command: Function) -> Function:
    """Add the options for what a run does; the command gets them as keyword arguments."""
    options = [
        click.option(
            "--run", "run_id", help="Id of the run.  [default: the newest equal one, else a new one]"
        ),
        click.option("--config", "config_file", type=_PATH, help="YAML file.  [default: the manifests']"),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="train.epochs=10, …"),
        click.option(
            "--registry", metavar="REGISTRY",
            help="Where images that a compose file builds are pushed to.  [default: loaded into kind]",
        ),
        click.option("--no-build", is_flag=True, help="The nodes have the images of the compose file."),
        click.option(
            "--data", multiple=True, metavar="DIR:PATH",
            help="Put a folder on the volume, once, and mount it at PATH in every stage of your own.",
        ),
        click.option("--timeout", type=_SECONDS, help="Seconds for an attempt of a stage that has none set."),
    ]  # fmt: skip
    return _decorated(command, options)


def run_options(command: Function) -> Function:
    """Add the options for what a run does and how; the command gets them as keyword arguments."""
    options = [
        click.option("--new", is_flag=True, help="Start a new run, even if an equal one exists."),
        click.option(
            "--replace", is_flag=True, help="Run again what the run has with other settings."
        ),
        _patience("--queue-timeout", 3600, "Seconds that a Job may be suspended, if its stage sets none."),
        _patience("--schedule-timeout", 300, "Seconds until a Pod has a node, if its stage sets none."),
        _patience("--start-timeout", 600, "Seconds from there until it runs, if its stage sets none."),
        click.option(
            "--early", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
            help="Start a stage while the one before it ends, to import; auto: where there is room for both.",
        ),
        click.option("--no-fetch", is_flag=True, help="Leave the results on the volume."),
        click.option(
            "--ttl",
            type=click.IntRange(min=0),
            help="Seconds until the Jobs are removed, once all is fetched.  [default: they stay]",
        ),
        click.option(
            "--detach", is_flag=True, help="Send all Jobs at once and leave; `attach RUN` follows them."
        ),
        click.option("--cancel-on-interrupt", is_flag=True, help="Ctrl-C deletes the running Jobs."),
        click.option("--dry-run", is_flag=True, help="Print what a run would create here; create nothing."),
        output_option("table", "json"),
    ]  # fmt: skip
    return config_options(_decorated(command, options))


def output_option(*formats: str) -> Function:
    """Add -o; the first format is the default."""
    return click.option("-o", "--output", type=click.Choice(formats), default=formats[0], show_default=True)


def _patience(name: str, seconds: int, text: str) -> Function:
    return click.option(name, type=_SECONDS, default=seconds, show_default=True, help=text)


def _decorated(command: Function, options: list[Function]) -> Function:
    for option in reversed(options):
        command = option(command)
    return command

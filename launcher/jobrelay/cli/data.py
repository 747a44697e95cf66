"""`put` and `data …`. Every --help imports this module, so it imports the rest where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobrelay.cli.options import output_option, target_options
from jobrelay.cli.typed import Group, Subcommand
from jobrelay.errors import BadInput, Exit

if TYPE_CHECKING:
    from jobrelay.console import Console
    from jobrelay.runs.target import Target

_COLUMNS = ("name", "files", "bytes", "contents", "cached bytes")


@click.command(cls=Subcommand)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--replace", is_flag=True, help="Replace what is there, in one step.")
@click.option(
    "--skip-odd-names",
    "skip_odd",
    is_flag=True,
    help="Leave out, and list, what cannot be copied: odd names, broken links, special files.",
)
@target_options
def put(target: Target, console: Console, folder: Path, name: str, replace: bool, skip_odd: bool) -> int:
    """Copy a local FOLDER to the volume as data/NAME, all or nothing.

    Symbolic links are followed, and each file is copied once. If any file cannot be copied, all such files
    are listed and nothing is copied.
    """
    from jobrelay import manifests
    from jobrelay.data import datasets

    _check(name)
    found = datasets.survey(folder, skip_odd=skip_odd)
    shared = manifests.shared_in(target.manifests, target.namespace)
    datasets.put(target.executor(), shared, found, name, replace=replace)
    click.echo(f"data/{name}")
    for line in datasets.summary(name, found):
        console.say(line)
    return Exit.SUCCEEDED


@click.group(cls=Group)
def data() -> None:
    """List and remove the data sets on the volume."""


@data.command("list")
@output_option("table", "json", "name")
@target_options
def list_data(target: Target, console: Console, output: str) -> int:
    """List the data sets, with their files, bytes and probable contents."""
    from jobrelay.console import print_json, print_table

    with target.executor().volume() as volume:
        found = volume.data_sets()
    if output == "name":
        click.echo("".join(f"{each.name}\n" for each in found), nl=False)
    elif output == "json":
        print_json([each.to_dict() for each in found])
    else:
        print_table(
            _COLUMNS,
            [
                (each.name, f"{each.files:,}", f"{each.bytes:,}", each.contents, f"{each.cache_bytes:,}")
                for each in found
            ],
        )
    return Exit.SUCCEEDED


@data.command("remove")
@click.argument("name")
@target_options
def remove_data(target: Target, console: Console, name: str) -> int:
    """Remove data/NAME from the volume. Refused while an unfinished run reads it."""
    from jobrelay.data import datasets

    _check(name)
    datasets.remove(target.executor(), name)
    click.echo(f"data/{name} removed")
    return Exit.SUCCEEDED


def _check(name: str) -> None:
    from jobrelay_runner.volume.paths import check_name

    try:
        check_name(name, "data set name")
    except ValueError as error:
        raise BadInput(str(error)) from error

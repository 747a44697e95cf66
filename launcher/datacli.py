"""`put` and `data …`. Imported for every --help, so they import the rest where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.errors import BadInput, Exit
from launcher.options import output_option, target_options
from launcher.typed import Group, Subcommand

if TYPE_CHECKING:
    from launcher.console import Console
    from launcher.target import Target

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
    """Copy a local FOLDER onto the volume as data/NAME, whole or not at all.

    Links in it are followed, each file is copied once. What cannot be copied is named, and then nothing is.
    """
    from launcher import datasets, manifests

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
    """The data sets, with their files, bytes and what seems to be in them."""
    from launcher.console import print_json, print_table

    with target.executor().volume() as volume:
        found = volume.data_sets()
    if output == "name":
        click.echo("".join(f"{each.name}\n" for each in found), nl=False)
    elif output == "json":
        print_json([each.model_dump() for each in found])
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
    """Remove data/NAME from the volume. Refused while a run that reads it is at work."""
    from launcher import datasets

    _check(name)
    datasets.remove(target.executor(), name)
    click.echo(f"data/{name} removed")
    return Exit.SUCCEEDED


def _check(name: str) -> None:
    from jobs.contract.volume import check_name

    try:
        check_name(name, "data set name")
    except ValueError as error:
        raise BadInput(str(error)) from error

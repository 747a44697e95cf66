"""The subcommands of `images`. Every --help imports this module, so it imports the rest when needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from jobrelay.cli.options import output_option, target_options
from jobrelay.cli.typed import Group
from jobrelay.errors import BadInput, Exit
from jobrelay.hints import Command
from jobrelay_runner import __version__

if TYPE_CHECKING:
    from jobrelay.console import Console
    from jobrelay.runs.target import Target

_ENGINE = click.option(
    "--engine", type=click.Choice(["docker", "podman", "buildah"]), help="[default: the first that is there]"
)
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Only errors and results.")


@click.group(cls=Group)
def images() -> None:
    """Build, load, push, list and compare the images that stages run in."""


@images.command()
@click.argument("which", type=click.Choice(["slim", "gpu", "bulky"]), default="slim")
@click.argument("options", nargs=-1, metavar="[-- OPTION…]")
@click.option(
    "-t", "--tag", "image", metavar="IMAGE",
    help=f"Name of the image.  [default: jobrelay:{__version__}, jobrelay:{__version__}-gpu or "
    f"jobrelay-bulky:{__version__}]",
)  # fmt: skip
@_ENGINE
@_QUIET
def build(which: str, options: tuple[str, ...], image: str | None, engine: str | None, quiet: bool) -> int:
    """Build the image slim (the default), gpu (slim with PyTorch's CUDA build) or bulky.

    Options after -- go to the engine: images build slim -- --build-arg BASE=IMAGE
    """
    from jobrelay.console import Console
    from jobrelay.images.building import RECIPES
    from jobrelay.images.engine import engine_that_works, full_name
    from jobrelay.resources import build_context

    recipe, console = RECIPES[which], Console(quiet=quiet)
    image = full_name(image or recipe.image)
    given = [*recipe.options, *options]
    with build_context() as folder:
        dockerfile = folder / "images" / recipe.dockerfile
        engine_that_works(engine).build(image, dockerfile, folder, given, console.say)
    click.echo(image)
    return Exit.SUCCEEDED


@images.command()
@click.argument("image")
@click.option("--kind", "cluster", metavar="CLUSTER", help="Load it onto the nodes of this kind cluster.")
@click.option(
    "--containerd", "address", metavar="[SOCKET]", is_flag=False,
    flag_value="/run/containerd/containerd.sock",
    help="Load it into the containerd of this machine.  [without SOCKET: /run/containerd/containerd.sock]",
)  # fmt: skip
@_ENGINE
def load(image: str, cluster: str | None, address: str | None, engine: str | None) -> int:
    """Load IMAGE into a cluster without a registry."""
    from jobrelay.images.engine import engine_with, full_name
    from jobrelay.images.loading import load_into_containerd, load_into_kind

    if (cluster is None) == (address is None):
        raise BadInput(
            "images load needs one target: --kind CLUSTER or --containerd [SOCKET]",
            Command("images", "load", image, "--kind", "jobrelay"),
        )
    if cluster is not None:
        load_into_kind(engine_with(image, engine), image, cluster)
    else:
        load_into_containerd(engine_with(image, engine), image, str(address))
    click.echo(full_name(image))
    return Exit.SUCCEEDED


@images.command()
@click.argument("image")
@click.argument("reference", metavar="REGISTRY/NAME[:TAG]")
@_ENGINE
@_QUIET
def push(image: str, reference: str, engine: str | None, quiet: bool) -> int:
    """Push IMAGE to a registry and print its name with digest, by which a cluster pulls exactly this image.

    Log in with the engine: docker, podman or buildah login.
    """
    from jobrelay.console import Console
    from jobrelay.images.engine import check_reference, engine_with, without_tag

    check_reference(reference)
    digest = engine_with(image, engine).push(image, reference, Console(quiet=quiet).say)
    click.echo(f"{without_tag(reference)}@{digest}")
    return Exit.SUCCEEDED


@images.command("list")
@output_option("table", "json", "name")
def list_images(output: str) -> int:
    """List the JobRelay images of the engines on this machine."""
    from dataclasses import asdict

    from jobrelay.console import print_json, print_table
    from jobrelay.images.engine import known_images

    found = [image for image in known_images() if "jobrelay" in image.name.rpartition("/")[2]]
    if output == "json":
        print_json([asdict(image) for image in found])
    elif output == "name":
        click.echo("".join(f"{image.name}\n" for image in found), nl=False)
    else:
        rows = [
            (image.name, image.size, image.id.removeprefix("sha256:")[:12], image.engine) for image in found
        ]
        print_table(("image", "size", "id", "engine"), rows)
    return Exit.SUCCEEDED


@images.command()
@click.argument("first", metavar="IMAGE[=NAME]")
@click.argument("second", metavar="IMAGE[=NAME]")
@click.option(
    "--runs", "count", type=click.IntRange(1, 100), default=5, show_default=True, help="Runs in each image."
)
@click.option(
    "--name", help="Name of the comparison, and of its folder in comparisons/.  [default: the time]"
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Configuration of the runs: train.epochs=20, …",
)
@click.option("--timeout", type=click.IntRange(min=1), help="Seconds for an attempt of a stage.")
@_ENGINE
@output_option("table", "json")
@target_options
def compare(target: Target, console: Console, **asked: Any) -> int:
    """Run the perceptron in two images alternately on the cluster, and measure their sizes.

    The cluster's nodes must have both images or be able to pull them. IMAGE is measured on this machine;
    NAME is its name in the cluster, if different. --local, --volume and --image are refused.
    """
    from dataclasses import replace

    from jobrelay.images.command import run_comparison

    if click.get_current_context().get_parameter_source("image") is ParameterSource.ENVIRONMENT:
        target = replace(target, image=None)  # the variable is for commands that use one image
    return run_comparison(target, console, folder=Path("comparisons"), **asked)

"""The command `images compare`: from its arguments to a finished comparison and its report."""

from __future__ import annotations

import json
from pathlib import Path

from jobrelay import manifests
from jobrelay.console import Console, print_json, print_table
from jobrelay.errors import BadInput, Exit
from jobrelay.images.comparing import WORKLOAD, Contender, Rounds, interleaved
from jobrelay.images.engine import Engine, engine_with
from jobrelay.images.measuring import Weight, weigh
from jobrelay.images.report import Compared, draw, rows, tree
from jobrelay.report.drawing import NO_PNG
from jobrelay.runs.results import require_place
from jobrelay.runs.target import Target
from jobrelay_runner.volume.paths import check_name

#: A run's id has at most 40 characters; here it ends in a hyphen, a letter and up to three digits.
_NAME_LENGTH = 35


def run_comparison(
    target: Target,
    console: Console,
    *,
    folder: Path,
    first: str,
    second: str,
    count: int,
    name: str | None,
    overrides: tuple[str, ...],
    timeout: int | None,
    engine: str | None,
    output: str,
) -> int:
    """Compare two images; write comparison.json, .svg and, with matplotlib, .png to a folder.

    Raises what a run raises.
    """
    if target.local:
        raise BadInput(
            "images are compared on a cluster: processes on this machine run in none",
            "leave --local out, and start a cluster if there is none: make kind-up",
        )
    if target.image:
        raise BadInput("--image: the two images are named by themselves", "leave --image out")
    contenders = [Contender.parse(first), Contender.parse(second)]
    if contenders[0] == contenders[1]:
        raise BadInput("the same image twice: there is nothing to compare")
    name = _name(name)
    rounds = Rounds(target, target.built_in(None, [*WORKLOAD, *overrides]), name, folder / name, timeout)
    try:
        place = target.executor().place()
    except BadInput as error:  # where others may run without a cluster
        raise BadInput(error.what, "start a cluster (make kind-up), or name one with --context") from error
    engines = [engine_with(contender.image, engine) for contender in contenders]
    require_place(rounds.folder)
    rounds.folder.mkdir(parents=True, exist_ok=True)
    # Runs first: a missing image on the node shows within seconds, while measuring sizes takes minutes.
    samples = interleaved(contenders, count, name, rounds.run, console.say)
    weights = [
        _weigh(contender, having, console) for contender, having in zip(contenders, engines, strict=True)
    ]
    compared = [
        Compared(contender, weight, samples[contender])
        for contender, weight in zip(contenders, weights, strict=True)
    ]
    found = tree(name, place, compared)
    (rounds.folder / "comparison.json").write_text(json.dumps(found, indent=2) + "\n")
    pictures = draw(compared[0], compared[1], rounds.folder)
    if output == "json":
        print_json(found)
    else:
        print_table(("", *(each.name for each in compared), "first / second"), rows(compared[0], compared[1]))
    files = ", ".join(["comparison.json", *(path.suffix for path in pictures)])
    console.say(f"{files} and the runs are in {rounds.folder}/")
    if not any(path.suffix == ".png" for path in pictures):
        console.say(NO_PNG)
    return Exit.SUCCEEDED


def _weigh(contender: Contender, having: Engine, console: Console) -> Weight:
    console.say(f"weighing {contender.image} ({having.name}; a minute for every gigabyte)")
    with having.archive(contender.image) as archive:
        return weigh(archive)


def _name(name: str | None) -> str:
    if name is None:
        return manifests.new_run_id()
    try:
        return check_name(name, "--name", _NAME_LENGTH)
    except ValueError as error:
        raise BadInput(str(error)) from error

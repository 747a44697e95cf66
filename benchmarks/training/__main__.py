"""How fast trainings are: engines and precisions compared, also with PyTorch's own examples.

    .venv/bin/python -m benchmarks.training --data DIR [--reference EXAMPLES] [--rounds 5]
    .venv/bin/python -m benchmarks.training --short      # correctness only, on the images in the box

DIR has the folders mnist/ and fashion-mnist/ with the IDX files of the full sets. EXAMPLES is a checkout
of github.com/pytorch/examples; its mnist and mnist_hogwild run unmodified except for the path of their data.

Every round runs each configuration once, in turn, with its own seed; the examples take most of the time and
need not run in every round. Seconds of training count from an epoch's first batch to its last, without
start-up and tests, which are listed separately as "besides the steps". Memory is that of the process which
took most.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import finish, spread
from benchmarks.training import roofline
from benchmarks.training.commands import Training, example, ours

TARGETS = {"mnist": (0.98, 0.99, 0.993, 0.995), "fashion-mnist": (0.88, 0.90, 0.92)}
EXAMPLE_NET = "model.name=mnist-hogwild-net"


@dataclass(frozen=True)
class Engine:
    """A way to train on two CPUs."""

    settings: tuple[str, ...]
    cores: int | None = None


ENGINES = {
    "single, bf16": Engine(("train.precision=bf16",)),
    "single, fp32": Engine(("train.precision=fp32",)),
    "single, bf16, one core": Engine(("train.precision=bf16",), cores=1),
    "hogwild, 2 processes, bf16": Engine(("train.precision=bf16", "train.strategy=hogwild")),
    "hogwild, 2 processes, fp32": Engine(("train.precision=fp32", "train.strategy=hogwild")),
    "ddp, 2 processes, bf16": Engine(("train.precision=bf16", "train.strategy=ddp")),
    "ddp, 2 processes, fp32": Engine(("train.precision=fp32", "train.strategy=ddp")),
}
#: The example's own network and batch size, with our hogwild.
HOGWILD = Engine((EXAMPLE_NET, "train.strategy=hogwild", "train.batch_size=64"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reference-rounds", type=int, default=5, help="that the examples run in")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 5, 10], help="lengths of training")
    parser.add_argument("--sets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--short", action="store_true")
    asked = parser.parse_args()
    if asked.short:
        runs = in_turn(1, engines(Path(), "fashion-mnist-mini", 1))
        table("training-short", engine_rows(runs), runs)
        return
    if asked.data is None:
        parser.error("--data DIR, or --short")
    plan = {f"mnist: {name}": run for name, run in engines(asked.data, "mnist", 1).items()}
    for name in asked.sets:
        for epochs in asked.epochs:
            plan[f"{name}: {length(epochs)}"] = trained(asked.data, name, Engine(()), epochs)
    if asked.reference:
        plan |= examples(asked.reference, asked.data)
        plan["mnist: our hogwild, the example's network"] = trained(asked.data, "mnist", HOGWILD, 1)
    runs = in_turn(asked.rounds, plan, asked.reference_rounds)
    rows = engine_rows(runs) + accuracy_rows(runs, asked.sets, asked.epochs)
    rows += example_rows(runs) if asked.reference else []
    table("training", rows + roofline_rows(runs), runs)


Run = Callable[[int], Training]
Runs = Mapping[str, Sequence[Training]]
Row = tuple[str, str, str]


def trained(data: Path, name: str, engine: Engine, epochs: int) -> Run:
    def run(seed: int) -> Training:
        return ours(data, name, (f"seed={seed}", f"train.epochs={epochs}", *engine.settings), engine.cores)

    return run


def engines(data: Path, name: str, epochs: int) -> dict[str, Run]:
    return {engine: trained(data, name, how, epochs) for engine, how in ENGINES.items()}


def examples(reference: Path, data: Path) -> dict[str, Run]:
    def run(name: str, epochs: int, threads: int | None) -> Run:
        arguments = ("--epochs", str(epochs))
        return lambda seed: example(reference, data, name, (*arguments, "--seed", str(seed + 1)), threads)

    return {
        "example mnist, 4 epochs": run("mnist", 4, None),
        "example mnist, OMP_NUM_THREADS=1": run("mnist", 1, 1),
        "example mnist_hogwild, its defaults": run("mnist_hogwild", 1, None),
        "example mnist_hogwild, OMP_NUM_THREADS=1": run("mnist_hogwild", 1, 1),
    }


def in_turn(rounds: int, plan: Mapping[str, Run], reference_rounds: int = 0) -> Runs:
    runs: dict[str, list[Training]] = defaultdict(list)
    for number in range(rounds):
        for name, run in plan.items():
            if name.startswith("example ") and number >= reference_rounds:
                continue
            runs[name].append(run(number))
            last = runs[name][-1]
            print(
                f"{number + 1}/{rounds}  {name}: {last.train_seconds:.1f} s, {last.images_per_second:,.0f} "
                f"images/s, accuracy {', '.join(f'{value:.4f}' for value in last.accuracy)}",
                flush=True,
            )
    return runs


def length(epochs: int) -> str:
    return f"default, {epochs} epoch{'s' if epochs > 1 else ''}"


def speed_row(name: str, done: Sequence[Training]) -> Row:
    speed = spread([run.images_per_second for run in done], 0)
    cpu = statistics.median(run.cpu_seconds for run in done)
    memory = statistics.median(run.peak_bytes for run in done) / 2**20
    rest = statistics.median(run.wall_seconds - run.train_seconds for run in done)
    return (f"{name}, images/s", speed, f"{cpu:.1f} CPU s, {memory:.0f} MiB, {rest:.1f} s besides the steps")


def engine_rows(runs: Runs) -> list[Row]:
    rows = [
        speed_row(name, done) for name, done in runs.items() if (name.partition(": ")[2] or name) in ENGINES
    ]
    pinned, pair = "mnist: single, bf16, one core", "mnist: ddp, 2 processes, bf16"
    if pinned in runs:
        ratio = [
            b.images_per_second / a.images_per_second for a, b in zip(runs[pinned], runs[pair], strict=True)
        ]
        rows.append(("ddp with 2 processes ÷ one process on one core, images/s", spread(ratio, 2), "≥ 1.5"))
    return rows


def accuracy_rows(runs: Runs, sets: Sequence[str], epochs: Sequence[int]) -> list[Row]:
    rows = []
    for name in sets:
        done = {count: runs[f"{name}: {length(count)}"] for count in epochs}
        for count, trainings in done.items():
            accuracy = spread([run.accuracy[-1] for run in trainings], 4)
            seconds = spread([run.train_seconds for run in trainings], 1)
            rows.append((f"{name}, {length(count)}: test accuracy", accuracy, f"in {seconds} s"))
        for target in TARGETS[name]:
            enough = [
                trainings
                for trainings in done.values()
                if statistics.median(run.accuracy[-1] for run in trainings) >= target
            ]
            seconds = spread([run.train_seconds for run in enough[0]], 1) if enough else "not reached"
            rows.append((f"{name}: seconds to {target:.1%} (median of the seeds)", seconds, ""))
    return rows


def example_rows(runs: Runs) -> list[Row]:
    theirs = runs["example mnist, 4 epochs"]
    rows = [
        ("example mnist: accuracy after each epoch", ", ".join(
            f"{statistics.median(epoch):.4f}" for epoch in zip(*(run.accuracy for run in theirs), strict=True)
        ), ""),
        ("example mnist: seconds to 99.0%", spread([_seconds_to(run, 0.99) for run in theirs], 1), ""),
    ]  # fmt: skip
    enough = [name for name in runs if name.startswith("mnist: default") and
              statistics.median(run.accuracy[-1] for run in runs[name]) >= 0.99]  # fmt: skip
    if enough:
        pairs = zip(theirs, runs[enough[0]], strict=False)
        ratio = [_seconds_to(a, 0.99) / b.train_seconds for a, b in pairs]
        rows.append(("example mnist ÷ ours, seconds to 99.0%", spread(ratio, 1), "≥ 25"))
    rows += [speed_row(name, done) for name, done in runs.items() if name.startswith("example ")]
    mine = runs["mnist: our hogwild, the example's network"]
    rows.append(speed_row("our hogwild, the example's network", mine))
    for name, target in (("its defaults", "≥ 5"), ("OMP_NUM_THREADS=1", "≥ 1")):
        theirs = runs[f"example mnist_hogwild, {name}"]
        ratio = [a.images_per_second / b.images_per_second for a, b in zip(mine, theirs, strict=False)]
        rows.append((f"our hogwild ÷ the example's, {name}, images/s", spread(ratio, 2), target))
    return rows


def _seconds_to(run: Training, target: float) -> float:
    """Return the seconds of training to the target; all of them if it was not reached."""
    reached = next((n for n, value in enumerate(run.accuracy) if value >= target), len(run.accuracy) - 1)
    return sum(run.seconds_by_epoch[: reached + 1])


def roofline_rows(runs: Runs) -> list[Row]:
    found = roofline.measure("cnn")
    rows = [
        ("one image through the default model and back, MFLOP", f"{found.flops / 1e6:.1f}", ""),
        ("matrix products, fp32 and bf16, GFLOP/s",
         f"{found.peak['fp32'] / 1e9:.0f} and {found.peak['bf16'] / 1e9:.0f}", ""),
    ]  # fmt: skip
    for precision, target in (("fp32", ""), ("bf16", "≥ 30 %")):
        speeds = [run.images_per_second for run in runs[f"mnist: single, {precision}"]]
        share = found.share(statistics.median(speeds), precision)
        rows.append((f"… of which training in {precision} reaches", f"{share:.0%}", target))
    return rows


def table(name: str, rows: Sequence[Row], runs: Runs) -> None:
    finish(name, rows, {name: [run.tree() for run in done] for name, done in runs.items()})


if __name__ == "__main__":
    main()

"""Run one training as a whole process, and measure it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import REPOSITORY

_PROGRESS = re.compile(r"Train Epoch: (\d+) \[(\d+)/(\d+)")
_ACCURACY = re.compile(r"Accuracy: (\d+)/(\d+)")


@dataclass(frozen=True)
class Training:
    """What one training took. `train_seconds`: first batch to last; the rest of `wall_seconds` is start-up.

    accuracy: on the test set, 0 … 1, after each tested epoch. peak_bytes: of the process that took most.
    images: of all epochs and processes.
    """

    images: int
    train_seconds: float
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    accuracy: tuple[float, ...]
    seconds_by_epoch: tuple[float, ...]

    @property
    def images_per_second(self) -> float:
        return self.images / self.train_seconds

    def tree(self) -> dict[str, Any]:
        return asdict(self)


def ours(data: Path, name: str, settings: Sequence[str], cores: int | None = None) -> Training:
    """Run `python -m jobrelay_train train`, then eval, on its own volume, on at most `cores` cores."""
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder)
        if name != "fashion-mnist-mini":
            (volume / "data").mkdir()
            (volume / "data" / name).symlink_to((data / name).resolve())
        options = [part for setting in (f"data.name={name}", *settings) for part in ("--set", setting)]
        for stage in ("train", "eval"):
            command = [
                sys.executable,
                "-m",
                "jobrelay_train",
                stage,
                "--run",
                "a",
                "--volume",
                folder,
                *options,
            ]
            _run(command, REPOSITORY, {}, cores)
        run = volume / "runs" / "a"
        record = json.loads((run / "train.json").read_text())
        history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        results = json.loads((run / "eval_results.json").read_text())
    seconds = [row["seconds"] for row in history]
    return Training(
        images=round(sum(row["seconds"] * row["images_per_second"] for row in history)),
        train_seconds=sum(seconds),
        wall_seconds=record["cost"]["wall_seconds"],
        cpu_seconds=record["cost"]["cpu_seconds"],
        peak_bytes=record["cost"]["peak_memory_bytes"],
        accuracy=(results["test_acc"],),
        seconds_by_epoch=tuple(seconds),
    )


def example(
    reference: Path, data: Path, name: str, arguments: Sequence[str], threads: int | None
) -> Training:
    """Run `python main.py` of a folder of pytorch/examples, with its data path pointing to `data`.

    threads: OMP_NUM_THREADS. Its own output shows when an epoch's first and last batch were done.
    """
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / name
        shutil.copytree(reference / name, code)
        raw = Path(folder) / "data" / "MNIST" / "raw"  # where ../data is, for what runs in `code`
        raw.mkdir(parents=True)
        for file in (data / "mnist").rglob("*ubyte*"):
            (raw / file.name).symlink_to(file.resolve())
        # A torchvision built for CUDA needs help to work with a CPU build of torch; see vision.
        (code / "sitecustomize.py").write_text(
            "import jobrelay_train.vision; jobrelay_train.vision.torchvision()\n"
        )
        environment = {"PYTHONPATH": f"{code}{os.pathsep}{REPOSITORY}", "PYTHONUNBUFFERED": "1"}
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        lines, wall, cpu, peak = _run([sys.executable, "main.py", *arguments], code, environment, None)
    first, last, accuracy = dict[int, float](), dict[int, float](), list[float]()
    images = 0
    for moment, line in lines:
        if match := _PROGRESS.search(line):
            epoch, images = int(match[1]), int(match[3])
            first.setdefault(epoch, moment)
            last[epoch] = moment
        elif match := _ACCURACY.search(line):
            accuracy.append(int(match[1]) / int(match[2]))
    seconds = [last[epoch] - first[epoch] for epoch in first]
    processes = 2 if name == "mnist_hogwild" else 1  # its default
    return Training(
        images=images * len(first) * processes,
        train_seconds=sum(seconds),
        wall_seconds=wall,
        cpu_seconds=cpu,
        peak_bytes=peak,
        accuracy=tuple(accuracy),
        seconds_by_epoch=tuple(seconds),
    )


def _run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], cores: int | None
) -> tuple[list[tuple[float, str]], float, float, int]:
    """Return output lines with their times in seconds, wall seconds, CPU seconds, peak bytes."""

    def limit() -> None:
        if cores is not None:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        preexec_fn=limit,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    lines = [(time.perf_counter() - began, line) for line in process.stdout]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit("".join(line for _, line in lines) + f"exit {process.returncode}: {' '.join(command)}")
    unit = 1 if sys.platform == "darwin" else 1024
    return lines, time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit

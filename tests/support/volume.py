"""Helpers of the stages' tests: small real data, and stages started as in a container."""

from __future__ import annotations

import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jobrelay_runner.fence import WriterFence
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import Record, read_record
from jobrelay_train.config.loading import load_config
from jobrelay_train.program import Context, program_of
from tests.support import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = {"train": "train", "test": "t10k"}
#: Dropout draws from torch's generator, so that its state must be restored too; 30 steps an epoch.
LONG = ("data.name=mnist", "model.name=mnist-hogwild-net", "train.epochs=8", "train.batch_size=10")


def idx_bytes(values: Tensor) -> bytes:
    """Small whole numbers as the content of an IDX file of bytes."""
    values = values.to(torch.uint8)
    header = bytes([0, 0, 8, values.dim()]) + struct.pack(f">{values.dim()}I", *values.shape)
    return header + bytes(values.flatten().numpy())


def bars(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 28, 28) of a bright bar whose place is the label, and the labels int64 (N,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (samples,), generator=generator)
    images = torch.randint(0, 60, (samples, 28, 28), dtype=torch.uint8, generator=generator)
    for number, label in enumerate(labels.tolist()):
        images[number, :, 2 + 2 * label : 5 + 2 * label] += 150
    return images, labels


def write_data(folder: Path, *, train: int = 300, test: int = 80, packed: bool = False) -> None:
    """The four files of a data set in `folder`, plain or gzip."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, samples) in enumerate({"train": train, "test": test}.items()):
        images, labels = bars(samples, seed)
        files = {"images-idx3-ubyte": images, "labels-idx1-ubyte": labels}
        for kind, values in files.items():
            content = idx_bytes(values)
            name = f"{NAMES[split]}-{kind}"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)


def png_of(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return len(content).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@dataclass
class Place:
    """A volume with small MNIST-like data, and one run on it."""

    root: Path
    run: str = "a"
    settings: Sequence[str] = ("data.name=mnist", "model.name=perceptron", "train.epochs=2")
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.root, self.run)

    def record(self, stage: Stage) -> Record:
        record = read_record(self.folder.record(stage))
        assert record is not None
        return record

    def losses(self) -> str:
        return str([json.loads(line)["loss"] for line in self.folder.history.read_text().splitlines()])

    def context(self, stage: Stage, *settings: str) -> Context:
        """For a stage in this process, without a supervisor."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        config = load_config(None, [*self.settings, *settings])
        fence = WriterFence.claim(self.folder, stage, "local")
        return Context(stage, program_of(stage, config), self.folder, "local", fence)

    def start(
        self, *arguments: str, python: Sequence[str] = (), pod: str = "local"
    ) -> subprocess.Popen[bytes]:
        """Start `python -m jobrelay_train …` for this run. python: arguments of Python before `-m`."""
        options = [part for setting in self.settings for part in ("--set", setting)]
        command = [
            sys.executable,
            *python,
            "-m",
            "jobrelay_train",
            arguments[0],
            "--run",
            self.run,
            "--volume",
            str(self.root),
        ]
        return subprocess.Popen(
            [*command, *options, *arguments[1:]],
            cwd=REPOSITORY,
            env={**clean_environment(), "JOBRELAY_POD": pod, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def do(self, *arguments: str, pod: str = "local") -> Ended:
        """`python -m jobrelay_train …` to its end."""
        return finish(self.start(*arguments, pod=pod))


def stop_and_resume(place: Place, settings: Sequence[str], epochs: int = 3) -> Place:
    """Train twice, once stopped by SIGTERM after its first epoch; both must end with the same weights.

    Returns the uninterrupted one.
    """
    every = (*settings, f"train.epochs={epochs}")
    undisturbed, stopped = (Place(place.root, run=name, settings=every) for name in ("a", "b"))
    ended = undisturbed.do("train")
    assert ended.code == 0, ended.out

    process = stopped.start("train")
    read_until(process, f"epoch 1/{epochs}".encode())
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 143
    ended = stopped.do("train")

    assert ended.code == 0, ended.out
    assert "resuming from epoch" in ended.out
    assert stopped.folder.model.read_bytes() == undisturbed.folder.model.read_bytes()
    return undisturbed


@dataclass(frozen=True)
class Ended:
    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()


def clean_environment() -> dict[str, str]:
    """The environment without variables that a stage reads."""
    return {name: value for name, value in os.environ.items() if not name.startswith("JOBRELAY_")}


def finish(process: subprocess.Popen[bytes]) -> Ended:
    """Wait for a process to end; if it does not, the test fails."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        raise
    return Ended(process.returncode, out, err.decode())


def read_until(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    """Standard output up to the end of the first line with `text`."""
    assert process.stdout is not None
    seen = b""
    while text not in seen:
        line = process.stdout.readline()
        assert line, f"ended before {text!r}: {seen!r}"
        seen += line
    return seen


def is_running(pid: int) -> bool:
    """Whether a process runs; False for a zombie that another parent has not reaped."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


def every_process(process: subprocess.Popen[bytes]) -> list[int]:
    """The supervisor and the process of the stage."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [process.pid, *map(int, found.stdout.split())]


@contextmanager
def small_volume(folder: Path, size: str) -> Iterator[tuple[Path, Callable[..., Path]]]:
    """A real file system of `size` bytes, and a function that fills it with a file, except `leave` bytes."""
    if os.getuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("mounting a small file system takes root, on Linux")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")

    def fill(leave: int = 0) -> Path:
        filler = folder / "filler"
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        os.truncate(filler, max(filler.stat().st_size - leave, 0))
        return filler

    try:
        yield folder, fill
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)

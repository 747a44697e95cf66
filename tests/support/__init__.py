"""Helpers of all tests: modified manifests, and the launcher started as a user starts it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
BASE = REPOSITORY / "k8s" / "base"

#: Seconds for what must come to its end, however busy the machine; only what hangs takes longer.
PATIENCE = 200

Object = dict[str, Any]
#: Little CPU is asked for, so that a test waits for no room that another's ending Pods still hold.
LITTLE = ("--set", "train.cpu=50m", "--set", "eval.cpu=50m", "--set", "infer.cpu=50m")
#: Smaller than the default: one linear layer, one pass over the images in the box.
QUICK = ("--set", "model.name=perceptron", "--set", "train.epochs=1", *LITTLE)
#: The real training, at work for some ten seconds: long enough to be disturbed.
LONG = (
    "--set", "model.name=perceptron", "--set", "train.epochs=12", "--set", "train.batch_size=4",
    *LITTLE,
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """Exit code and output of a finished launcher."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Place:
    """Where a test's launcher works: the options that name it, and its working folder."""

    options: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`python launcher …`, in the working folder. What follows `--` is a command of its own."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        words = [*arguments[:end], *self.options, *arguments[end:]]
        return subprocess.Popen(
            [sys.executable, str(REPOSITORY / "launcher"), *words],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, expect: int | None = 0) -> Result:
        """Start a launcher and wait for its end; `expect`: the exit code (None: any)."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=PATIENCE)
        result = Result(process.returncode, out, err)
        assert expect is None or result.code == expect, f"exit {result.code}, not {expect}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return result

    @staticmethod
    def wait_for(process: subprocess.Popen[str], line: str) -> str:
        """Read a launcher's stderr until it prints `line`; returns what was read."""
        assert process.stderr
        seen = ""
        for said in process.stderr:
            seen += said
            if line in said:
                return seen
        raise AssertionError(f"it never said {line!r}:\n{seen}")

    def interrupt_when(self, line: str, number: signal.Signals, *arguments: str) -> Result:
        """Start a launcher, send it a signal as soon as it prints `line`, and wait for its end."""
        process = self.start(*arguments)
        seen = self.wait_for(process, line)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
        return Result(process.returncode, out, seen + err)


def write_manifests(folder: Path, change: Callable[[str, Object], None]) -> Path:
    """A copy of k8s/base in which `change(stage, job)` was applied to every Job."""
    shutil.copytree(BASE, folder)
    for stage in ("train", "eval", "infer"):
        path = folder / f"job-{stage}.yaml"
        job = yaml.safe_load(path.read_text())
        for container in pod_spec(job)["containers"]:
            container["resources"]["requests"]["cpu"] = "50m"
        change(stage, job)
        plain = json.loads(json.dumps(job))  # no part of it twice: YAML would write an alias
        path.write_text(yaml.safe_dump(plain, sort_keys=False))
    return folder


def programs(folder: Path, **of_stage: str) -> Path:
    """Manifests whose stages run small Python programs; a stage without one prints its name.

    backoffLimit is 0, so that no retry hides a failure.
    """

    def change(stage: str, job: Object) -> None:
        program = textwrap.dedent(of_stage.get(stage, f"print('{stage} was here')"))
        set_command(job, ["python", "-c", program])
        job["spec"]["backoffLimit"] = 0
        pod_spec(job)["terminationGracePeriodSeconds"] = 2  # these programs do not heed SIGTERM

    return write_manifests(folder, change)


def changed(folder: Path, change: Callable[[Object, Object], None]) -> Path:
    """Manifests whose stages print their names, without a retry; `change(pod_spec, job)` modifies train."""

    def of_train(stage: str, job: Object) -> None:
        set_command(job, ["python", "-c", f"print('{stage}')"])
        job["spec"]["backoffLimit"] = 0
        if stage == "train":
            change(pod_spec(job), job)

    return write_manifests(folder, of_train)


def pod_spec(job: Object) -> Object:
    spec: Object = job["spec"]["template"]["spec"]
    return spec


def set_command(job: Object, command: Sequence[str]) -> None:
    """The stage's container runs `command`, and has no gate before it."""
    pod_spec(job).pop("initContainers", None)
    container = pod_spec(job)["containers"][0]
    container["command"] = list(command)
    container.pop("args", None)


@contextmanager
def eventually(seconds: float = 30) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Yield `until(condition)`, which waits for an effect that the launcher requested but does not await."""

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.1)

    yield until


@contextmanager
def serving(command: Sequence[str], log: Path, is_up: Callable[[], bool]) -> Iterator[None]:
    """Run a server for one test, from when it is up to the end of the test."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 30
        while not is_up():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"{command[0]} does not come up"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()

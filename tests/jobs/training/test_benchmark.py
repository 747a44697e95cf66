"""The benchmark of training, in short: that every engine comes to its end and has learned something."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.report import RESULTS
from benchmarks.training.__main__ import ENGINES
from tests.support.volume import REPOSITORY


def test_every_engine_of_the_benchmark_trains() -> None:
    command = [sys.executable, "-m", "benchmarks.training", "--short"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=500)

    assert done.returncode == 0, done.stdout + done.stderr
    samples = json.loads((RESULTS / "training-short.json").read_text())["samples"]
    assert samples.keys() == ENGINES.keys()
    for runs in samples.values():
        assert [run["images"] for run in runs] == pytest.approx([6000], rel=0.01)
        assert all(run["accuracy"][-1] > 0.5 for run in runs)  # one epoch; by guessing it would be 0.1

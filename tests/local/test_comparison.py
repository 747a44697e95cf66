"""One round of a comparison. What it compares, images, only a cluster has; the rest is the same here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY

ROUND = f"""
import dataclasses, json, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from jobrelay.images.comparing import WORKLOAD, Contender, Rounds, interleaved
from jobrelay.runs.target import Target

target = Target(local=True, volume=Path("volume"))
config = target.config(None, [*WORKLOAD, "train.epochs=1"])
contender, said = Contender.parse("jobrelay:0.1.0"), []
found = interleaved([contender], 1, "x", Rounds(target, config, "x", Path("out")).run, said.append)
print(json.dumps([said, *map(dataclasses.asdict, found[contender])]))
"""


def test_a_round_brings_its_results_home_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ROUND], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")

    [line], sample = json.loads(done.stdout)
    assert line.startswith("1/1 jobrelay:0.1.0: first batch ")
    assert 0 < sample["seconds_to_first_batch"] < 120
    assert 0 < sample["train_seconds"] < 120
    assert sample["cpu_seconds"] > 0
    assert sample["peak_memory_bytes"] > 50 * 2**20
    assert (tmp_path / "out/runs/x-a1/results/decision_boundary.png").exists()
    assert list((tmp_path / "volume/runs").iterdir()) == []

"""Whole runs with the default configuration: seconds, test accuracy, memory.

    .venv/bin/python benchmarks/runs.py                                     # the images in the box, here
    .venv/bin/python benchmarks/runs.py --data DIR --context NAME -k k8s/overlays/kind
    .venv/bin/python benchmarks/runs.py --data DIR --local --seeds 3

DIR has the folders mnist/ and fashion-mnist/ with the IDX files of the full sets; they are copied to the
volume first. Every run is new.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import REPOSITORY, finish, spread

TARGETS = {"fashion-mnist-mini": 0.85, "fashion-mnist": 0.90, "mnist": 0.99}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--context")
    parser.add_argument("--kustomize", "-k", default=str(REPOSITORY / "k8s" / "base"))
    parser.add_argument("--image")
    asked = parser.parse_args()
    where = ["-k", str(Path(asked.kustomize).resolve())]
    where += ["--image", asked.image] if asked.image else []
    where += ["--context", asked.context] if asked.context else ["--local"]
    if asked.context:
        where += ["-n", f"jobrelay-bench-{secrets.token_hex(3)}"]
    rows, samples = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in TARGETS if asked.data else ["fashion-mnist-mini"]:
            if name != "fashion-mnist-mini":
                launcher(folder, "put", str((asked.data / name).resolve()), name, *where)
            runs = [one_run(folder, name, seed, where) for seed in range(asked.seeds)]
            samples[name] = runs
            accuracies = [run["accuracy"] for run in runs]
            rows += [
                (f"{name}: test accuracy", spread(accuracies, 4), f"≥ {TARGETS[name]}"),
                (f"{name}: train, s", spread([run["train_seconds"] for run in runs], 1), ""),
                (
                    f"{name}: whole run, fetched, s",
                    spread([run["seconds"] for run in runs], 1),
                    "",
                ),
                (f"{name}: peak memory of train, MiB", spread([run["peak_mib"] for run in runs], 0), ""),
            ]
    if asked.context:
        command = ["kubectl", "--context", asked.context, "delete", "namespace", where[-1], "--wait=false"]
        subprocess.run(command, check=False)
    finish("runs", rows, samples)


def one_run(folder: str, name: str, seed: int, where: list[str]) -> dict[str, float]:
    begun = time.perf_counter()
    what = ["--set", f"data.name={name}", "--set", f"seed={seed}"]
    report: Any = json.loads(launcher(folder, "run-all", "--new", "-q", "-o", "json", *what, *where))
    seconds = time.perf_counter() - begun
    train, test, _ = report["stages"]
    return {
        "seed": seed,
        "seconds": seconds,
        "accuracy": test["metrics"]["test_acc"],
        "train_seconds": train["cost"]["wall_seconds"],
        "peak_mib": train["cost"]["peak_memory_bytes"] / 2**20,
    }


def launcher(folder: str, *arguments: str) -> str:
    command = [sys.executable, str(REPOSITORY / "launcher"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()

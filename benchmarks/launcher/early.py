"""What an early start saves: time from one stage's record to the next stage's work, and whole runs.

    .venv/bin/python -m benchmarks.launcher.early --context NAME [--image NAME] [--pairs 5]
    .venv/bin/python -m benchmarks.launcher.early --local

It runs the real stages on the bundled images, alternately with `--early on` and `--early off`. The times
are the stages' own (the timeline of `-o json`), all measured by one node's clock.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from typing import Any

from benchmarks.report import REPOSITORY, finish, spread

SETTINGS = ["--set", "train.epochs=6"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--context")
    parser.add_argument("--image", default="jobrelay:0.1.0")
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    namespace = f"jobrelay-bench-{secrets.token_hex(3)}"
    where = ["--local"]
    if not asked.local:
        where = ["-n", namespace, "--image", asked.image]
        where += ["--context", asked.context] if asked.context else []
        for stage in ("train", "eval", "infer"):  # so that two fit on a small node
            where += ["--set", f"{stage}.cpu=200m"]
    samples: dict[str, list[dict[str, float]]] = {"on": [], "off": []}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for _ in range(asked.pairs):
                for early in samples:
                    samples[early].append(one_run(folder, [*where, "--early", early]))
        finally:
            if not asked.local:
                context = ["--context", asked.context] if asked.context else []
                command = ["kubectl", *context, "delete", "namespace", namespace, "--wait=false"]
                subprocess.run(command, check=False)
    rows = [
        (f"{what}, s, --early {early}", spread([run[key] for run in runs], 2), target)
        for key, what, target in (
            ("train_to_eval", "train's record → eval works", "≤ 0.3"),
            ("eval_to_infer", "eval's record → infer works", ""),
            ("end_to_end", "train's record → all three verdicts seen", ""),
            ("seconds", "run-all --no-fetch", ""),
        )
        for early, runs in samples.items()
        for target in [target if early == "on" else ""]
    ]
    finish("early-local" if asked.local else "early", rows, samples)


def one_run(folder: str, options: list[str]) -> dict[str, float]:
    command = [sys.executable, str(REPOSITORY / "launcher"), "run-all", "--new", "--no-fetch", "-q"]
    begun = time.perf_counter()
    done = subprocess.run(
        [*command, "-o", "json", *SETTINGS, *options], cwd=folder, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begun
    if done.returncode:
        sys.exit(done.stderr)
    train, test, infer = (stage["timeline"] for stage in json.loads(done.stdout)["stages"])
    return {
        "train_to_eval": between(train["recorded"], test["working"]),
        "eval_to_infer": between(test["recorded"], infer["working"]),
        "end_to_end": between(train["recorded"], infer["seen"]),
        "seconds": seconds,
    }


def between(one: Any, other: Any) -> float:
    return (datetime.fromisoformat(other) - datetime.fromisoformat(one)).total_seconds()


if __name__ == "__main__":
    main()

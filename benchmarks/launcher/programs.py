"""What programs of your own cost: three trivial scripts, on this machine and on a cluster.

    python -m benchmarks.launcher.programs --local [--rounds 5]
    python -m benchmarks.launcher.programs [--context NAME] [--rounds 5]

On a cluster a shell script with kubectl runs the same three Jobs, without the runner, side by side: create,
wait for the condition, next.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import REPOSITORY, finish, spread

IMAGE = "jobrelay:0.1.0"
#: On this machine.
TARGETS = {"jobrelay, new run": "≤ 1.5 with --local", "jobrelay, the same again": "≤ 0.5 with --local"}
PIPELINE = "stages:\n" + "".join(f"  {name}: {{run: 'true', cpu: 50m}}\n" for name in ("one", "two", "three"))
JOB = """\
apiVersion: batch/v1
kind: Job
metadata: {{name: {run}-{name}}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - {{name: main, image: {image}, imagePullPolicy: IfNotPresent, command: ["true"]}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--context")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    namespace = f"jobrelay-bench-{uuid.uuid4().hex[:6]}"
    where = ["--local"] if asked.local else ["-n", namespace]
    where += ["--context", asked.context] if asked.context else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "jobrelay.yaml").write_text(PIPELINE)
        kinds: dict[str, Callable[[], object]] = {
            "jobrelay, new run": lambda: _launcher(folder, "--new", *where),
            "jobrelay, the same again": lambda: _launcher(folder, *where),
        }
        context = ["--context", asked.context] if asked.context else []
        if asked.local:
            _launcher(folder, "--new", *where)
            finish("programs-local", measure(kinds, asked.rounds), {})
            return
        kubectl = ["kubectl", *context]
        kinds["kubectl script"] = lambda: _script([*kubectl, "-n", namespace])
        subprocess.run([*kubectl, "create", "namespace", namespace], check=True, capture_output=True)
        try:
            _launcher(folder, "--new", *where)
            finish("programs-cluster", measure(kinds, asked.rounds), {})
        finally:
            subprocess.run([*kubectl, "delete", "namespace", namespace, "--wait=false"], check=False)


def measure(kinds: dict[str, Callable[[], object]], rounds: int) -> list[tuple[str, str, str]]:
    """Run each kind in turn, round by round; return rows of wall and CPU seconds."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, run in kinds.items():
            begun, before = time.monotonic(), os.times()
            run()
            after = os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            found[kind].append((time.monotonic() - begun, cpu))
    rows = []
    for kind, figures in found.items():
        wall, cpus = ([figure[index] for figure in figures] for index in (0, 1))
        rows.append((f"{kind}, seconds", spread(wall, 2), TARGETS.get(kind, "")))
        rows.append((f"{kind}, CPU seconds here", spread(cpus, 2), ""))
    return rows


def _launcher(folder: Path, *options: str) -> None:
    command = [sys.executable, str(REPOSITORY / "launcher"), "run-all", "-q", *options]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _script(kubectl: list[str]) -> None:
    run = uuid.uuid4().hex[:8]
    for name in ("one", "two", "three"):
        job = JOB.format(run=f"k{run}", name=name, image=IMAGE)
        subprocess.run([*kubectl, "create", "-f", "-"], input=job, text=True, check=True, capture_output=True)
        wait = ["wait", "--for=condition=complete", f"job/k{run}-{name}", "--timeout=120s"]
        subprocess.run([*kubectl, *wait], check=True, capture_output=True)
        subprocess.run([*kubectl, "logs", f"job/k{run}-{name}"], check=True, capture_output=True)


if __name__ == "__main__":
    main()

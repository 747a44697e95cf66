"""How long `python launcher --help` takes, and what a launcher that follows a local run imports.

.venv/bin/python -m benchmarks.launcher.startup
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.report import REPOSITORY, finish, spread

RUNS = 20


def main() -> None:
    helps, bare = [], []
    for _ in range(RUNS):
        helps.append(seconds_of(str(REPOSITORY / "launcher"), "--help"))
        bare.append(seconds_of("-c", "pass"))
    modules = "jobrelay.cli.main, jobrelay.runs.relay, jobrelay.runs.target"
    program = f"import sys, {modules}; print('torch' in sys.modules)"
    imports = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()
    rows = [
        ("python launcher --help, seconds", spread(helps), "≤ 0.25"),
        ("python -c pass, seconds", spread(bare), ""),
        ("launcher imports torch", imports, "False"),
    ]
    finish("startup", rows, {"help": helps, "bare": bare})


def seconds_of(*arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()

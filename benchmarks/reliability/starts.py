"""Seconds to the verdict on a Job that cannot start, and whether the verdict is right.

    .venv/bin/python -m benchmarks.reliability.starts --context NAME [--repeat 20] [--at-once 5]

Measured from the start of `python launcher run-all` to its end. "Final" is an error that waiting does not
fix: an image that the registry does not have or refuses, a command that is not in the image. "No Pod" is a
missing ServiceAccount. The time includes the launcher's own patience (5 s and 30 s).
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.reliability.launchers import p95, somewhere
from benchmarks.report import finish
from tests.cluster.test_starting import registry
from tests.support import Object, Place, changed
from tests.support.kubectl import Kubectl

Change = Callable[[Object, Object], None]


def cases(image: str) -> dict[str, tuple[str, str, Change]]:
    """Return by name: final or no Pod; the expected message; what is wrong with the Job."""

    def never(pod: Object, job: Object) -> None:
        pod["containers"][0].update(image="nothing:1", imagePullPolicy="Never")

    def absent(pod: Object, job: Object) -> None:
        pod["containers"][0].update(image=image)

    def command(pod: Object, job: Object) -> None:
        pod["containers"][0].update(command=["/nope"])

    def nobody(pod: Object, job: Object) -> None:
        pod.update(serviceAccountName="nobody")

    return {
        "image-absent": ("final", "ImagePull", absent),
        "image-never-pulled": ("final", "ErrImageNeverPull", never),
        "command-absent": ("final", "/nope", command),
        "account-absent": ("no Pod", "FailedCreate", nobody),
    }


def without_requests(change: Change) -> Change:
    """Return the same change without resource requests, so that the Job never waits for room."""

    def both(pod: Object, job: Object) -> None:
        pod["containers"][0]["resources"] = {}
        change(pod, job)

    return both


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--context", required=True)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=4, help="runs side by side")
    asked = parser.parse_args()
    with somewhere(asked.context) as (place, _), ThreadPoolExecutor(asked.at_once) as threads:
        namespace = place.options[place.options.index("-n") + 1]
        kubectl = Kubectl(asked.context, namespace)
        wrong = cases(f"{registry(kubectl, 404, 'MANIFEST_UNKNOWN')}/nobody/nothing:1")
        folders = {name: changed(place.folder / name, without_requests(wrong[name][2])) for name in wrong}
        work = list(itertools.product(range(asked.repeat), wrong))
        begun = time.monotonic()
        ends = list(threads.map(lambda item: once(place, folders[item[1]], f"{item[1]}-{item[0]}"), work))
        print(f"{len(work)} runs in {time.monotonic() - begun:.0f} s")
    seconds: dict[str, list[float]] = {"final": [], "no Pod": []}
    problems = []
    for (number, name), (code, err, taken) in zip(work, ends, strict=True):
        kind, said, _ = wrong[name]
        seconds[kind].append(taken)
        if code != 3 or said not in err:
            problems.append(f"{name}-{number}: exit {code}: {err[-300:]}")
    rows = [
        (f"{kind}: seconds to the verdict, p95 (max)", f"{p95(taken):.1f} ({max(taken):.1f})", target)
        for (kind, taken), target in zip(seconds.items(), ("≤ 15", "≤ 35"), strict=True)
    ]
    rows.append(("exit 3 with the API's reason", f"{len(work) - len(problems)} of {len(work)}", "all"))
    finish("reliability-starts", rows, {**seconds, "problems": problems})
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


def once(place: Place, folder: Path, run: str) -> tuple[int, str, float]:
    """Return exit code, stderr, seconds."""
    begun = time.monotonic()
    process = place.start("run-all", "--run", run, "-k", str(folder), "--no-fetch")
    try:
        _, err = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        process.kill()
        _, err = process.communicate()
    return process.returncode, err, time.monotonic() - begun


if __name__ == "__main__":
    main()

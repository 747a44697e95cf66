"""Kill launchers at random moments and at every seam, and let launchers race.

    .venv/bin/python -m benchmarks.reliability.launchers --kills 100 --races 50 [--context NAME] [--at-once 4]

Without --context, stages are processes on this machine. They print numbered lines for a second or two. A
launcher is killed with SIGKILL and the same command is repeated. Then nothing may be lost or duplicated:
Jobs keep their UIDs, every log has each line once, and the results are those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report import finish
from jobrelay_train.config.schema import STAGES
from tests.support import REPOSITORY, Place, programs

LINES = 200
PROGRAM = """
    import os, pathlib, time
    stage = {stage!r}
    for number in range({lines}):
        print(f"{{stage}} line {{number:06}} " + "x" * (number * 37 % 400), flush=True)
        if number % 10 == 0:
            time.sleep({pause})
    folder = pathlib.Path(os.environ["JOBRELAY_VOLUME"], "runs", os.environ["JOBRELAY_RUN"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (stage + ".txt")).write_text("the result of " + stage)
"""


@dataclass
class Outcome:
    """Result of one disturbed run."""

    problems: list[str] = field(default_factory=list)
    attached_after: float | None = None  # seconds from the second start to its first output about the run


def stage_programs(folder: Path, lines: int = LINES, pause: float = 0.05) -> Path:
    """Write manifests whose stages print numbered lines and leave one small result."""
    programs(folder, **{s: PROGRAM.format(stage=s, lines=lines, pause=pause) for s in STAGES})
    for stage in STAGES:  # many at once on a small node
        path = folder / f"job-{stage}.yaml"
        job = yaml.safe_load(path.read_text())
        job["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "20m"}}
        path.write_text(yaml.safe_dump(job, sort_keys=False))
    return folder


def expected_log(stage: str, lines: int = LINES) -> bytes:
    """Return the output of such a stage."""
    return b"".join(
        b"%s line %06d " % (stage.encode(), n) + b"x" * (n * 37 % 400) + b"\n" for n in range(lines)
    )


def seams() -> list[str]:
    """Return every point between two actions at which a launcher may die."""
    calls = [("check", 1), ("share", 1), ("configure", 1), ("watch", 1), ("submit", 3), ("read_log", 3)]
    calls += [("volume", 1)]
    return [
        f"{when}:{name}:{n}"
        for name, times in calls
        for n in range(1, times + 1)
        for when in ("before", "after")
    ]


#: Runs the launcher in a separate process that kills itself at one seam of its executor.
AT_SEAM = """
import os, signal, sys
sys.path.insert(0, {repository!r})
from jobrelay.cli import main as cli
from jobrelay.runs import target
when, name, number = {seam!r}.split(":")
if "--local" in sys.argv:
    from jobrelay.executors.local import LocalExecutor as Executor
else:
    from jobrelay.executors.cluster import ClusterExecutor as Executor
call, count = getattr(Executor, name), 0
def dying(*arguments, **more):
    global count
    count += 1
    if count == int(number) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = call(*arguments, **more)
    if count == int(number) and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(Executor, name, dying)
sys.exit(cli.main(sys.argv[1:]))
"""


def kill_at(place: Place, arguments: list[str], seam: str) -> int:
    """Start a launcher that dies at `seam`; return its exit code: -9 if it reached the seam."""
    program = AT_SEAM.format(repository=str(REPOSITORY), seam=seam)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, *place.options],
        cwd=place.folder, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    return done.returncode


def kill_after(place: Place, arguments: list[str], seconds: float) -> int:
    """Start a launcher and kill it after `seconds`."""
    process = place.start(*arguments)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return process.returncode


def disturbed(
    place: Place, folder: Path, kill: Callable[[list[str]], int], jobs_of: Callable[[str], dict[str, str]]
) -> Outcome:
    """Kill the launcher of one run once, and then complete the run."""
    run = f"k{secrets.token_hex(5)}"
    arguments = ["run-all", "--run", run, "-k", str(folder)]
    outcome = Outcome()
    code = kill(arguments)
    before = jobs_of(run)

    begun = time.monotonic()
    process = place.start(*arguments, "-o", "json")
    assert process.stderr
    words = ("re-attached to", "│", "✓")
    for line in process.stderr:
        if any(word in line for word in words):
            outcome.attached_after = time.monotonic() - begun
            break
    out, err = process.communicate(timeout=300)
    if process.returncode != 0:
        outcome.problems.append(f"{run} (first: exit {code}): exit {process.returncode}: {err[-500:]}")
        return outcome
    after = jobs_of(run)
    if sorted(after) != sorted(f"{run}-{stage}" for stage in STAGES) or not before.items() <= after.items():
        outcome.problems.append(f"{run}: Jobs {before} became {after}")
    report = json.loads(out)
    home = place.folder / "runs" / run
    for stage, told in zip(STAGES, report["stages"], strict=True):
        if told["verdict"]["outcome"] != "succeeded" or told["pods"] != 1:
            outcome.problems.append(f"{run}: {stage}: {told['verdict']}, {told['pods']} Pods")
        if (home / f"{stage}.txt").read_text() != f"the result of {stage}":
            outcome.problems.append(f"{run}: the result of {stage} is another one")
        logs = list((home / "logs").glob(f"{stage}-*.log"))
        # the log of a Job that had already ended is read only on request
        content = logs[0].read_bytes() if logs else place.run("logs", run, stage).out.encode()
        if told["how"] == "complete":
            content = place.run("logs", run, stage).out.encode()
        if len(logs) > 1 or content != expected_log(stage):
            outcome.problems.append(
                f"{run}: the log of {stage} has {content.count(b'line')} of {LINES} lines"
            )
    return outcome


def race(place: Place, folder: Path, jobs_of: Callable[[str], dict[str, str]]) -> list[str]:
    """Start two launchers of one run at once; return the problems."""
    run = f"r{secrets.token_hex(5)}"
    arguments = ["run-all", "--run", run, "-k", str(folder), "--no-fetch", "-o", "json"]
    both = [place.start(*arguments) for _ in range(2)]
    ends = [process.communicate(timeout=300) for process in both]
    codes = [process.returncode for process in both]
    if codes != [0, 0]:
        return [f"{run}: exit {codes}: {[err[-300:] for _, err in ends]}"]
    verdicts = [[stage["verdict"] for stage in json.loads(out)["stages"]] for out, _ in ends]
    problems = [] if verdicts[0] == verdicts[1] else [f"{run}: {verdicts}"]
    return problems if len(jobs_of(run)) == 3 else [*problems, f"{run}: Jobs {jobs_of(run)}"]


@contextmanager
def somewhere(context: str | None) -> Iterator[tuple[Place, Callable[[str], dict[str, str]]]]:
    """Yield a place to run at, and a function that returns the UIDs of a run's Jobs there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if context is None:
            place = Place(["--local", "--volume", str(folder / "volume")], folder)

            def local_jobs(run: str) -> dict[str, str]:
                paths = (folder / "volume" / ".jobs").glob(f"{run}-*/state.json")
                jobs = [json.loads(path.read_text())["job"]["metadata"] for path in paths]
                return {job["name"]: job["uid"] for job in jobs}

            yield place, local_jobs
            return
        namespace = f"jobrelay-bench-{secrets.token_hex(3)}"
        kubectl = ["kubectl", "--context", context, "-n", namespace]

        def jobs(run: str) -> dict[str, str]:
            asked = [*kubectl, "get", "jobs", "-l", f"jobrelay.dev/run={run}", "-o", "json"]
            shown = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
            found: list[dict[str, Any]] = json.loads(shown)["items"]
            return {job["metadata"]["name"]: job["metadata"]["uid"] for job in found}

        try:
            yield Place(["--context", context, "-n", namespace], folder), jobs
        finally:
            subprocess.run([*kubectl, "delete", "namespace", namespace, "--wait=false"], check=False)


def p95(samples: list[float]) -> float:
    """Return the value that 95 of 100 do not exceed."""
    return sorted(samples)[max(int(len(samples) * 0.95 + 0.5) - 1, 0)] if samples else 0.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--context", help="[default: processes on this machine]")
    parser.add_argument("--kills", type=int, default=10, help="at random moments")
    parser.add_argument("--no-seams", action="store_true")
    parser.add_argument("--races", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side")
    parser.add_argument("--within", type=float, default=12.0, help="the latest moment of a kill, seconds")
    asked = parser.parse_args()
    dice = random.Random(0)
    moments = [dice.uniform(0.2, asked.within) for _ in range(asked.kills)]
    with somewhere(asked.context) as (place, jobs_of), ThreadPoolExecutor(asked.at_once) as threads:
        folder = stage_programs(place.folder / "m")
        place.run("run-all", "--run", "first", "-k", str(folder))  # namespace, claim, warm caches

        def at_moment(seconds: float) -> Outcome:
            return disturbed(place, folder, lambda a: kill_after(place, a, seconds), jobs_of)

        def at_seam(seam: str) -> Outcome:
            return disturbed(place, folder, lambda a: kill_at(place, a, seam), jobs_of)

        random_ones = list(threads.map(at_moment, moments))
        at_seams = list(threads.map(at_seam, [] if asked.no_seams else seams()))
        races = list(threads.map(lambda _: race(place, folder, jobs_of), range(asked.races)))
    rows = []
    for what, outcomes in (("at random moments", random_ones), ("at every seam", at_seams)):
        good = sum(not outcome.problems for outcome in outcomes)
        rows.append((f"launcher killed {what}: nothing lost or doubled", f"{good} of {len(outcomes)}", "all"))
    times = [o.attached_after for o in (*random_ones, *at_seams) if o.attached_after is not None]
    rows.append(
        ("re-attached after, s (p95, max)", f"{p95(times):.1f}, {max(times, default=0):.1f}", "≤ 10 (p95)")
    )
    equal = sum(not problems for problems in races)
    rows.append(("two launchers: one set of Jobs, equal verdicts", f"{equal} of {len(races)}", "all"))
    problems = [p for o in (*random_ones, *at_seams) for p in o.problems] + [p for r in races for p in r]
    finish("reliability-launchers", rows, {"attached_after": times, "problems": problems})
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()

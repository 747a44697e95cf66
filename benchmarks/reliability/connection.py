"""Effects of a bad connection to the API server on runs on a real cluster: cuts, stalls, outages.

    .venv/bin/python -m benchmarks.reliability.connection [--context NAME] [--cuts 500] [--stalls 200]
        [--outages 20] [--short 60] [--long 600]

Each launcher has its own proxy in front of the API server (faultproxy), and runs only train, with a
program that prints known lines. Nothing is fetched: the comparison uses what the launcher itself has read.
0 skips a part.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import finish
from faultproxy import FaultProxy, Request, Rule, Upstream
from tests.support import Place, programs

NUMBERED = 100_000
#: Most stalls per run, which must last long enough for all of them.
STALLS_A_RUN = 10

#: Many Pods at once on a small node.
SMALL = ("--set", "train.cpu=20m", "--set", "train.memory=64Mi")
#: Prints `line 000000` and so on, evenly over some seconds.
PROGRAM = """
import sys, time
begun = time.monotonic()
for i in range({lines}):
    sys.stdout.write(f"line {{i:06}}\\n")
    if i % {burst} == {burst} - 1:
        sys.stdout.flush()
        time.sleep(max(begun + i * {seconds} / {lines} - time.monotonic(), 0))
"""


@dataclass(frozen=True)
class Bench:
    """The environment of all trials."""

    upstream: Upstream
    options: list[str]
    folder: Path
    at_once: int


@dataclass
class Trial:
    """One run behind one proxy, and its result."""

    proxy: FaultProxy
    place: Place
    arguments: list[str]
    expected: bytes
    codes: list[int] = field(default_factory=list)
    said: str = ""

    def start(self) -> subprocess.Popen[str]:
        return self.place.start(*self.arguments)

    def wait(self, process: subprocess.Popen[str]) -> int:
        _, err = process.communicate()
        self.codes.append(process.returncode)
        self.said += err
        return process.returncode

    @property
    def log_is_identical(self) -> bool:
        return [path.read_bytes() for path in self.place.folder.glob("runs/*/logs/train-*.log")] == [
            self.expected
        ]


@contextmanager
def trial(
    bench: Bench, lines: int, seconds: float, rules: list[Rule] | None = None, *more: str
) -> Iterator[Trial]:
    """Prepare a run that prints `lines` lines over `seconds` seconds, behind a proxy with these rules."""
    run = f"c-{secrets.token_hex(4)}"
    folder = bench.folder / run
    folder.mkdir()
    burst = max(lines // max(int(seconds * 10), 1), 1)
    program = PROGRAM.format(lines=lines, seconds=seconds, burst=burst)
    programs(folder / "m", train=program)
    expected = b"".join(b"line %06d\n" % i for i in range(lines))
    with FaultProxy(upstream=bench.upstream, rules=rules or []) as proxy:
        place = Place(
            bench.options, folder, {"KUBECONFIG": str(proxy.write_kubeconfig(folder / "kubeconfig"))}
        )
        arguments = ["run", "train", "-q", "-k", str(folder / "m"), "--run", run, "--no-fetch", *SMALL, *more]
        yield Trial(proxy, place, arguments, expected)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--context", default=None)
    parser.add_argument("--image", default="jobrelay:0.1.0")
    parser.add_argument("--cuts", type=int, default=500)
    parser.add_argument("--stalls", type=int, default=200)
    parser.add_argument("--outages", type=int, default=20)
    parser.add_argument("--short", type=float, default=60, help="seconds of an outage that is waited for")
    parser.add_argument("--long", type=float, default=600, help="seconds of one that is not; 0: none")
    parser.add_argument("--api-timeout", type=float, default=300, help="patience in a long outage")
    parser.add_argument("--at-once", type=int, default=20)
    asked = parser.parse_args()
    upstream = Upstream.of_context(asked.context)
    namespace = f"jobrelay-bench-{secrets.token_hex(3)}"
    kubectl = ["kubectl", "--context", upstream.context]
    rows: list[tuple[str, str, str]] = []
    samples: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        options = ["--context", upstream.context, "-n", namespace, "--image", asked.image]
        bench = Bench(upstream, options, Path(name), asked.at_once)
        try:
            with trial(bench, 1, 0) as first:  # the namespace, and the claim's binding
                assert first.wait(first.start()) == 0, first.said
            if asked.cuts:
                cut_logs(bench, asked.cuts, rows, samples)
            if asked.stalls:
                stall(bench, asked.stalls, rows, samples)
            if asked.outages:
                short_outages(bench, asked.outages, asked.short, rows, samples)
            if asked.outages and asked.long:
                long_outages(bench, asked.outages, asked.long, asked.api_timeout, rows, samples)
        finally:
            subprocess.run([*kubectl, "delete", "namespace", namespace, "--wait=false"], check=False)
    finish("connection", rows, samples)


def cut_logs(bench: Bench, cuts: int, rows: list[Any], samples: dict[str, Any]) -> None:
    """Run one after the other, with 100,000 lines each, until the stream was cut `cuts` times."""
    runs: list[dict[str, Any]] = []
    done = 0
    while done < cuts:
        left = cuts - done
        rules = [
            Rule(how, on="log", after_seconds=(0.02, 0.6), times=left, probability=chance, seed=len(runs))
            for how, chance in (("reset", 0.5), ("close", 1.0))
        ]
        # a cut every half second, including the pause and the repeated reads
        with trial(bench, NUMBERED, max(left * 0.6, 10), rules) as one:
            code = one.wait(one.start())
            struck = len(one.proxy.struck("reset")) + len(one.proxy.struck("close"))
            runs.append({"cuts": struck, "code": code, "identical": one.log_is_identical})
            done += struck
    identical = sum(run["identical"] and run["code"] == 0 for run in runs)
    rows.append(
        (f"{done} cuts of the log stream over {NUMBERED:,} lines", f"{identical} of {len(runs)} runs "
         "byte-identical", "all")
    )  # fmt: skip
    samples["cuts"] = runs


def stall(bench: Bench, stalls: int, rows: list[Any], samples: dict[str, Any]) -> None:
    """Run several at once, while connections of every kind fall silent in each."""

    def one_run(seed: int) -> dict[str, Any]:
        rules = [
            Rule("stall", on="log", after_seconds=(0.1, 4), times=2, seed=seed),
            Rule("stall", on="plain", path="*/pods/*", method="GET", times=2),
            Rule("stall", on="watch", path="*/jobs", after=(1, 4000), first=1 + seed % 2, times=2, seed=seed),
            Rule("stall", on="watch", path="*/pods", after_seconds=(0, 20), times=2, seed=seed),
            Rule("stall", on="watch", path="*/events", after_seconds=(0, 20), times=2, seed=seed),
        ]
        with trial(bench, 1200, 120, rules) as one:
            code = one.wait(one.start())
            noticed = {kind: seconds_to_notice(one.proxy, kind) for kind in ("watch", "log", "plain")}
            return {
                "stalls": len(one.proxy.struck()), "code": code, "identical": one.log_is_identical,
                "noticed": noticed, "said": one.said if code else "",
            }  # fmt: skip

    runs: list[dict[str, Any]] = []
    while (done := sum(run["stalls"] for run in runs)) < stalls:
        count = min(-(-(stalls - done) // STALLS_A_RUN), bench.at_once)
        runs += side_by_side(one_run, range(len(runs), len(runs) + count))
    wrong = sum(run["code"] != 0 or not run["identical"] for run in runs)
    for kind in ("watch", "log", "plain"):
        times = [seconds for run in runs for seconds in run["noticed"][kind]]
        rows.append((f"{len(times)} stalls ({kind}) noticed, s: p50, p95, max", percentiles(times), "≤ 30"))
    rows.append((f"wrong verdicts in {len(runs)} runs with {done} stalls", str(wrong), "0"))
    samples["stalls"] = runs


def seconds_to_notice(proxy: FaultProxy, kind: str) -> list[float]:
    """Return the seconds from each stall to the next request for the same, unless the run ended before."""

    def same(request: Request, stalled: Request) -> bool:
        # for a silent log, the launcher first queries the Pod
        return request.path in (stalled.path, stalled.path.removesuffix("/log"))

    found = []
    for stalled in proxy.struck("stall"):
        at = stalled.struck
        if stalled.kind != kind or at is None:
            continue
        later = [r.started for r in proxy.requests if r.started > at and same(r, stalled)]
        if later:
            found.append(min(later) - at)
    return found


def short_outages(bench: Bench, count: int, seconds: float, rows: list[Any], samples: dict[str, Any]) -> None:
    """Cause an outage in the middle of a run; the stage ends shortly after it, or during it."""

    def one_run(number: int) -> dict[str, Any]:
        length = 10 + seconds * (1.2 if number % 2 else 0.5)
        with trial(bench, 1000, length) as one:
            process = one.start()
            wait_for_log(one)
            one.proxy.outage(seconds)
            code = one.wait(process)
            return {"code": code, "identical": one.log_is_identical, "said": one.said if code else ""}

    runs = batches(bench, one_run, count)
    good = sum(run["code"] == 0 and run["identical"] for run in runs)
    rows.append((f"API outage of {seconds:.0f} s: goes on", f"{good} of {count}", f"{count} of {count}"))
    samples["short"] = runs


def long_outages(
    bench: Bench, count: int, seconds: float, patience: float, rows: list[Any], samples: dict[str, Any]
) -> None:
    """Cause an outage longer than the launcher's patience, then repeat the same command."""

    def one_run(number: int) -> dict[str, Any]:
        with trial(bench, 1000, seconds + 30, None, "--api-timeout", f"{patience:.0f}") as one:
            process = one.start()
            wait_for_log(one)
            begun = time.monotonic()
            one.proxy.outage(seconds)
            lost = one.wait(process)
            gave_up = time.monotonic() - begun
            time.sleep(max(begun + seconds + 1 - time.monotonic(), 0))
            again = one.wait(one.start())
            return {
                "lost": lost, "gave_up": gave_up, "again": again, "identical": one.log_is_identical,
                "said": one.said,
            }  # fmt: skip

    runs = batches(bench, one_run, count)
    lost = sum(run["lost"] == 5 and "re-attach" in run["said"] for run in runs)
    again = sum(run["again"] == 0 and run["identical"] for run in runs)
    target = f"{count} of {count}"
    rows.append((f"API outage of {seconds:.0f} s: exit 5", f"{lost} of {count}", target))
    rows.append(("  then the same command: re-attached, log byte-identical", f"{again} of {count}", target))
    rows.append(
        ("  given up after, s: p50, p95, max", percentiles([r["gave_up"] for r in runs]), f"≥ {patience:.0f}")
    )
    samples["long"] = runs


def wait_for_log(one: Trial) -> None:
    """Wait until some of the log has arrived."""
    deadline = time.monotonic() + 180
    while not any(request.kind == "log" and request.bytes for request in one.proxy.requests):
        if time.monotonic() > deadline:
            raise TimeoutError("the run does not print")
        time.sleep(0.1)


def batches(bench: Bench, one_run: Callable[[int], dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [
        run
        for begin in range(0, count, bench.at_once)
        for run in side_by_side(one_run, range(begin, min(begin + bench.at_once, count)))
    ]


def side_by_side(one_run: Callable[[int], dict[str, Any]], numbers: range) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(max(len(numbers), 1)) as threads:
        return list(threads.map(one_run, numbers))


def percentiles(samples: list[float]) -> str:
    if len(samples) < 2:
        return ", ".join(f"{sample:.1f}" for sample in samples) or "none"
    p95 = statistics.quantiles(samples, n=20, method="inclusive")[-1]
    return f"{statistics.median(samples):.1f}, {p95:.1f}, {max(samples):.1f}"


if __name__ == "__main__":
    main()

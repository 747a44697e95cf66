"""From one stage to the next on a cluster, and a whole run of three trivial stages against kubectl.

    .venv/bin/python -m benchmarks.launcher.handover [--context NAME] [--image NAME] [--pairs 5]

Each stage prints one line; the image is on the node. Alternately run a shell script of `kubectl apply`,
`kubectl wait` and `kubectl logs`, and `python launcher run-all --no-fetch`, each up to the third
verdict with its log. Then run in this process, to measure by the launcher's own clock: from the arrival of
the event with Complete to the request that creates the next Job.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report import REPOSITORY, finish, spread
from jobrelay import manifests
from jobrelay.console import Console
from jobrelay.executors.cluster.watch import RunUpdates
from jobrelay.runs.relay import run_stages
from jobrelay.runs.request import RunRequest, plan_run
from jobrelay.runs.target import Target
from jobrelay_runner.stages import Stage
from jobrelay_train.config.schema import STAGES

SCRIPT = """
set -e
kubectl apply -f shared.yaml >apply.log 2>&1
for stage in train eval infer; do
  kubectl apply -f $stage.yaml >>apply.log 2>&1
  kubectl wait --for=condition=complete --timeout=120s job/$1-$stage >>apply.log 2>&1
  kubectl logs job/$1-$stage
done
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--context", default=None)
    parser.add_argument("--image", default="jobrelay:0.1.0")
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    namespace = f"jobrelay-bench-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory() as name:
        folder = trivial_manifests(Path(name) / "k8s", asked.image)
        target = Target(context=asked.context, namespace=namespace, kustomization=folder)
        try:
            launch(target, Path(name))  # the namespace, the claim's binding, warm caches
            scripts, launchers, memory = [], [], []
            for _ in range(asked.pairs):
                sleep_a_part_of_a_second()
                scripts.append(by_kubectl(target, Path(name) / "script"))
                sleep_a_part_of_a_second()
                seconds, peak = launch(target, Path(name))
                launchers.append(seconds)
                memory.append(peak)
            handovers = [gap for _ in range(asked.pairs) for gap in own_clock(target)]
        finally:
            context = ["--context", asked.context] if asked.context else []
            subprocess.run(
                ["kubectl", *context, "delete", "namespace", namespace, "--wait=false"], check=False
            )
    ratio = statistics.median(launchers) / statistics.median(scripts)
    means = statistics.mean(launchers) / statistics.mean(scripts)
    rows = [
        ("hand-over, ms: Complete seen → next create", spread([g * 1000 for g in handovers], 1), "≤ 50"),
        ("three trivial stages, launcher, s", spread(launchers, 2), ""),
        ("three trivial stages, kubectl script, s", spread(scripts, 2), ""),
        ("ratio of the medians; of the means", f"{ratio:.2f}; {means:.2f}", "≤ 1"),
        ("launcher's peak memory, MiB", spread(memory, 0), "≤ 120"),
    ]
    samples = {"handover": handovers, "launcher": launchers, "script": scripts, "memory_mib": memory}
    finish("handover", rows, samples)


def sleep_a_part_of_a_second() -> None:
    """Start at a random moment of the kubelet's one-second loop, not where the previous run ended."""
    time.sleep(random.random())


def trivial_manifests(folder: Path, image: str) -> Path:
    """Write k8s/base with Jobs that print one line, and without gates."""
    folder.mkdir()
    for source in manifests.BASE.glob("*.yaml"):
        text = source.read_text()
        if source.name.startswith("job-"):
            job = yaml.safe_load(text)
            pod = job["spec"]["template"]["spec"]
            pod.pop("initContainers", None)
            container = pod["containers"][0]
            container.pop("args")
            container.update(image=image, command=["echo", f"{container['name']} was here"])
            text = yaml.safe_dump(job)
        (folder / source.name).write_text(text)
    return folder


def launch(target: Target, folder: Path) -> tuple[float, float]:
    """Return seconds and peak MiB of `python launcher run-all`."""
    command = [sys.executable, str(REPOSITORY / "launcher"), "run-all", "--new", "--no-fetch"]
    command += ["-k", str(target.kustomization), "-n", str(target.namespace)]
    command += ["--context", target.context] if target.context else []
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    assert os.waitstatus_to_exitcode(status) == 0, said
    assert "infer │ infer was here" in said
    return seconds, usage.ru_maxrss / 1024


def by_kubectl(target: Target, folder: Path) -> float:
    """Return the seconds of the shell script on the same manifests."""
    folder.mkdir(exist_ok=True)
    run = f"script-{secrets.token_hex(3)}"
    plan = manifests.render(target.manifests, target.config(None, []), run, namespace=target.namespace)
    (folder / "shared.yaml").write_text(manifests.to_yaml([*plan.shared, plan.config_map]))
    for stage, job in plan.jobs.items():
        (folder / f"{stage}.yaml").write_text(manifests.to_yaml([job]))
    kubeconfig = folder / "kubeconfig"
    view = ["kubectl", "config", "view", "--raw", "--minify"]
    view += ["--context", target.context] if target.context else []
    kubeconfig.write_bytes(subprocess.run(view, capture_output=True, check=True).stdout)
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    subprocess.run(
        ["kubectl", "config", "set-context", "--current", "--namespace", str(target.namespace)],
        env=environment, capture_output=True, check=True,
    )  # fmt: skip
    begun = time.perf_counter()
    done = subprocess.run(
        ["sh", "-c", SCRIPT, "sh", run],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - begun
    assert "infer was here" in done.stdout, done.stderr
    return seconds


def own_clock(target: Target) -> list[float]:
    """Return the seconds from a stage's last event to the request that creates the next, twice per run."""
    executor: Any = target.executor()
    submitted: dict[str, float] = {}
    seen: list[RunUpdates] = []

    def on_step(step: str, stage: Stage) -> None:
        if step == "submit":
            submitted[stage] = time.monotonic()

    @contextlib.contextmanager
    def watch(plan: manifests.Plan) -> Iterator[RunUpdates]:
        with RunUpdates(executor.api, plan.namespace, plan.run, "jobrelay") as updates:
            seen.append(updates)
            yield updates

    executor.watch = watch
    request = RunRequest(namespace=target.namespace, new=True, fetch=False)
    plan = plan_run(executor, target.manifests, target.config(None, []), request)
    with tempfile.TemporaryDirectory() as here, contextlib.chdir(here):
        run_stages(executor, plan, request, Console(quiet=True), on_step)
    ended = {stage: at for stage in STAGES for at in seen[0].finished_times(f"{plan.run}-{stage}")}
    return [submitted["eval"] - ended["train"], submitted["infer"] - ended["eval"]]


if __name__ == "__main__":
    main()

"""`logs`: from the Pod while it is there, from the volume when it is gone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Any

from jobs.contract.config import STAGES, Stage
from launcher import artifacts, overview
from launcher.errors import BadInput, EvidenceIncomplete
from launcher.executors.base import Executor, last_lines
from launcher.manifests import LABEL_COMPONENT, main_container

Object = dict[str, Any]


def print_logs(
    executor: Executor,
    run: str | None,
    stage: Stage | None,
    *,
    follow: bool,
    tail: int | None,
    out: IO[bytes],
) -> None:
    """Write the logs of a run's stages (None: all) to `out`. Raises BadInput if there are none."""
    run = run or overview.newest_run(executor)
    stages = [stage] if stage else list(STAGES)
    there = {job["metadata"]["labels"][LABEL_COMPONENT]: (job, pods) for job, pods in executor.jobs(run)}
    printed = False
    gone: list[Stage] = []
    for wanted in stages:
        if wanted in there and _from_pods(executor, *there[wanted], follow, tail, out):
            printed = True
        elif wanted in there or stage or not there:  # else the run has not come to it yet
            gone.append(wanted)
    if gone:
        printed |= _from_volume(executor, run, gone, tail, out)
    if not printed:
        raise BadInput(f"run {run} has no log on {executor.place()}", "python launcher status " + run)


def _from_pods(
    executor: Executor, job: Object, pods: Any, follow: bool, tail: int | None, out: IO[bytes]
) -> bool:
    def sink(chunk: bytes) -> None:
        out.write(chunk)
        out.flush()

    printed = False
    for pod in pods:
        try:
            executor.log_tail(pod, main_container(job)["name"], tail, follow, sink)
            printed = True
        except LookupError:
            continue  # the volume has it
    return printed


def _from_volume(executor: Executor, run: str, stages: list[Stage], tail: int | None, out: IO[bytes]) -> bool:
    printed = False
    with tempfile.TemporaryDirectory() as folder:
        try:
            artifacts.fetch(executor, run, Path(folder) / run)
        except EvidenceIncomplete:
            return False
        for stage in stages:
            for path in sorted((Path(folder) / run / "logs").glob(f"{stage}-*.log")):
                out.write(last_lines(path.read_bytes(), tail))
                printed = True
    return printed

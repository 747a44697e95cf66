"""`logs`: from the Pod while it exists, then from the fetched run, else from the volume."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO, Any, Final

from jobrelay.errors import BadInput, EvidenceIncomplete, UnknownRun
from jobrelay.executors.base import JobReader
from jobrelay.hints import Command
from jobrelay.kube.labels import LABEL_COMPONENT
from jobrelay.kube.objects import Job
from jobrelay.kube.read import index_of, main_container, pipeline_of
from jobrelay.runs import results, status
from jobrelay.runs.folder import belongs
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.records import read_records
from jobrelay_runner.volume.safe_read import open_regular

_BLOCK: Final = 256 * 1024


def print_logs(
    executor: JobReader,
    run: str | None,
    stage: Stage | None,
    *,
    follow: bool,
    tail: int | None,
    out: IO[bytes],
    fetched: Path = Path("runs"),
) -> None:
    """Write the logs of a run's stages (None: all) to `out`. Raises BadInput if there are none.

    fetched: the folder of fetched runs, one subfolder per run.
    """
    if run and stage is None and not executor.jobs(run):  # `logs train`: of the newest run
        newest = status.newest_run(executor) if executor.jobs() else None
        if newest and run in pipeline_of(job for job, _ in executor.jobs(newest)):
            run, stage = newest, run
    run = run or status.newest_run(executor)
    jobs = executor.jobs(run)
    there = {job["metadata"]["labels"][LABEL_COMPONENT]: (job, pods) for job, pods in jobs}
    stages = [stage] if stage else pipeline_of(job for job, _ in jobs)
    stages = stages or _fetched(executor, run, fetched) or _recorded(executor, run)
    printed = False
    gone: list[Stage] = []
    for wanted in stages:
        if wanted in there and _from_pods(executor, *there[wanted], follow, tail, out):
            printed = True
        elif wanted in there or stage or not there:  # otherwise the run has not reached it yet
            gone.append(wanted)
    known = belongs(fetched / run, run, executor.place())  # not a run of the same name in another place
    here = [stage for stage in gone if known and _from_folder(fetched / run, stage, tail, out)]
    printed |= bool(here)
    if left := [stage for stage in gone if stage not in here]:
        printed |= _from_volume(executor, run, left, tail, out)
    if not printed:
        status.require_known(executor, run)
        known_stages = pipeline_of(job for job, _ in jobs) or _recorded(executor, run)
        if stage and known_stages and stage not in known_stages:
            raise BadInput(f"run {run} has no stage {stage}", f"choose from {', '.join(known_stages)}")
        raise BadInput(f"run {run} has no log on {executor.place()}", Command("status", run))


def _fetched(executor: JobReader, run: str, fetched: Path) -> list[Stage]:
    """The stages of a run that was fetched; none if the folder is another run's."""
    folder = fetched / run
    return list(read_records(folder, root=folder)) if belongs(folder, run, executor.place()) else []


def _recorded(executor: JobReader, run: str) -> list[Stage]:
    """The stages of a run without Jobs, from its records on the volume."""
    with executor.volume(run) as volume:
        return [stage for known in volume.runs() if known["run"] == run for stage in known["records"]]


def _from_pods(
    executor: JobReader, job: Job, pods: Any, follow: bool, tail: int | None, out: IO[bytes]
) -> bool:
    def sink(chunk: bytes) -> None:
        _write(out, chunk)

    printed = False
    for pod in sorted(pods, key=lambda pod: index_of(pod) or 0):
        try:
            executor.log_tail(pod, main_container(job)["name"], tail, follow, sink)
            printed = True
        except LookupError:
            continue  # the volume has it
    return printed


def _from_volume(
    executor: JobReader, run: str, stages: list[Stage], tail: int | None, out: IO[bytes]
) -> bool:
    printed = False
    with tempfile.TemporaryDirectory() as folder:
        try:
            results.fetch(executor, run, Path(folder) / run)
        except (EvidenceIncomplete, UnknownRun):
            return False
        for stage in stages:
            printed |= _from_folder(Path(folder) / run, stage, tail, out, proven=False)
    return printed


def _from_folder(folder: Path, stage: Stage, tail: int | None, out: IO[bytes], proven: bool = True) -> bool:
    """Write every attempt's log, the proven one last. proven: only if the record proves one."""
    last = results.proven_log(folder, stage)
    if proven and last is None:
        return False
    paths = sorted(results.logs_of(folder, stage), key=lambda path: (path == last, path.name))
    for path in paths:
        with open_regular(path, root=folder) as log:
            _copy_tail(log, tail, out)
    return bool(paths)


def _copy_tail(log: IO[bytes], lines: int | None, out: IO[bytes]) -> None:
    """Write the last lines of a log (None: all) of any size, without lines added meanwhile."""
    end = os.fstat(log.fileno()).st_size
    log.seek(0 if lines is None else _start_of(log, end, lines))
    while log.tell() < end and (block := log.read(min(_BLOCK, end - log.tell()))):
        _write(out, block)


def _start_of(log: IO[bytes], end: int, lines: int) -> int:
    """Byte offset of the last `lines` lines of a log. Only a newline ends a line, as in kubectl."""
    if lines == 0 or end == 0:
        return end
    position, found = end - 1, 0  # a newline at the very end ends the last line
    while position > 0:
        start = max(0, position - _BLOCK)
        log.seek(start)
        block = log.read(position - start)
        while (newline := block.rfind(b"\n")) >= 0:
            found += 1
            if found == lines:
                return start + newline + 1
            block = block[:newline]
        position = start
    return 0


def _write(out: IO[bytes], content: bytes) -> None:
    """Write all of it: with PYTHONUNBUFFERED, a standard stream may write a part and return its length."""
    left = memoryview(content)
    while left:
        left = left[out.write(left) :]
    out.flush()

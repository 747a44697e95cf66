"""Well-known errors of programs that the runner runs → what to change in their pipeline.

Only for a stage that failed, and whose verdict says no more than to read its log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from jobrelay.hints import Command
from jobrelay.kube.objects import Job
from jobrelay.kube.quantities import doubled
from jobrelay.kube.read import has_runner, main_container, pod_spec, stage_of
from jobrelay.terminal import printable
from jobrelay.verdicts.failures import with_last_line
from jobrelay.verdicts.model import Verdict
from jobrelay.verdicts.security import is_restricted

_LONGEST_NAME: Final = 80


@dataclass(frozen=True)
class Situation:
    """A stage that failed. found: what its output says. is_local: a process of this machine, no container."""

    stage: str
    job: Job
    found: re.Match[str]
    is_local: bool

    @property
    def name(self) -> str:
        """What the error names, in quotes as a message may show it; empty if it names nothing."""
        return printable(next(filter(None, self.found.groupdict().values()), ""))[:_LONGEST_NAME]


def explained(verdict: Verdict, job: Job, log: str, *, is_local: bool) -> Verdict:
    """Add what the end of a stage's log reports, and advice if the error is a known one."""
    verdict = with_last_line(verdict, log)
    says_no_more = isinstance(verdict.hint, Command) and verdict.hint.words[:1] == ("logs",)
    if verdict.outcome != "failed" or not says_no_more or not has_runner(main_container(job)):
        return verdict
    text = advice(f"{log}\n{verdict.message}", job, is_local=is_local)
    return replace(verdict, hint=text) if text else verdict


def advice(output: str, job: Job, *, is_local: bool = False) -> str:
    """Return what to change so that the last known error in a stage's output goes away; empty for none."""
    last, text = -1, ""
    for pattern, remedy in _KNOWN.items():
        for found in re.finditer(pattern, output):
            if found.end() > last and (remedied := remedy(Situation(stage_of(job), job, found, is_local))):
                last, text = found.end(), remedied
    return text


def _weights_only(at: Situation) -> str:
    return (
        f"if you trust the file, set env: {{TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD: 1}} in stages.{at.stage}: "
        "PyTorch 2.6 and newer load nothing but weights by default"
    )


def _shared_memory(at: Situation) -> str:
    if at.is_local:
        return "use fewer workers of the DataLoader: /dev/shm is too small on this machine"
    size = next((volume for volume in pod_spec(at.job)["volumes"] if volume["name"] == "shm"), None)
    limit = str(cast(Any, size or {}).get("emptyDir", {}).get("sizeLimit", ""))
    try:
        more = doubled(limit)
    except ValueError:
        more = "2Gi"
    return f"give it a larger /dev/shm (shm:) with --set {at.stage}.shm={more}, or use fewer workers"


def _disk(at: Situation) -> str:
    where = "the disk of this machine" if at.is_local else "the volume, or the node's disk,"
    return f"remove old runs (delete RUN --data), or write less: {where} is full"


def _module(at: Situation) -> str:
    package = at.name.partition(".")[0]
    other = "install it for the Python on your PATH" if at.is_local else "use another image: that has it"
    return f"name a file with the Python package {package} in requirements:, or {other}"


def _library(at: Situation) -> str:
    if at.is_local:
        return f"install {at.name}, a library of the system that this machine lacks"
    return f"use another image: that has {at.name}, a library of the system"


def _permission(at: Situation) -> str:
    path = at.name
    if not path.startswith("/") or path.startswith(("/jobrelay/", "/proc/", "/sys/")):
        return ""
    folder = f"give {path} a folder of the workspace with mounts:"
    if at.is_local or not is_restricted(at.job):
        owner = "this" if at.is_local else "the image's"
        return f"{folder}, as {owner} user may not write there"
    return (
        f"run it as the image's own user with security: image (--set {at.stage}.security=image), or {folder}"
    )


def _gpu(at: Situation) -> str:
    cpu = "choose the CPU in the program's arguments (device cpu)"
    limits: Mapping[str, Any] = main_container(at.job).get("resources", {}).get("limits", {})
    if at.is_local:
        return f"{cpu}: PyTorch finds no GPU on this machine"
    if any("gpu" in name for name in limits):
        return "use another image:, for the CUDA of the node's driver: this one cannot use the stage's GPU"
    return f"give it a GPU with --set {at.stage}.gpus=1 and an image: that has CUDA, or {cpu}"


def _download(at: Situation) -> str:
    return "download it on this machine, and give the stages the folder with --data DIR:PATH"


#: Pattern in the output → advice, empty where it is another case. The error that comes last counts, and of
#: several patterns for one error the first.
_KNOWN: Final[Mapping[str, Callable[[Situation], str]]] = {
    r"(?i)weights[_ ]only(?=[^\n]*(unpickl|load|default|torch\.load))": _weights_only,
    r"(?i)/dev/shm|shared memory \(shm\)|unable to (?:write to|open|mmap) [^\n]*</?torch_"
    r"|\bbus error|SIGBUS": _shared_memory,
    r"No space left on device(?![^\n]*(?:/dev/shm|torch_))": _disk,
    r"(?:ModuleNotFoundError: )?No module named '?(?P<module>[\w.]+)": _module,
    r"(?:ImportError|OSError): (?P<library>lib[\w.+-]+): cannot open shared object file": _library,
    r"Permission denied: [bu]?['\"](?P<path>/[^'\"\n]*)": _permission,
    r"['\"‘`]?(?P<path>/[^\s'\"’:]+)['\"’]?: (?:Permission denied|Read-only file system)": _permission,
    r"Read-only file system: [bu]?['\"](?P<path>/[^'\"\n]*)": _permission,
    r"not compiled with CUDA|Found no NVIDIA driver|CUDA driver version is insufficient"
    r"|no CUDA-capable device|CUDA driver initialization failed|torch\.cuda\.is_available\(\) is False": _gpu,
    r"\b(?:ConnectionError|URLError|gaierror|ConnectTimeout|MaxRetryError)\b"
    r"|Temporary failure in name resolution|Could not resolve host|Network is unreachable": _download,
}

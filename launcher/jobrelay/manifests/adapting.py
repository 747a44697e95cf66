"""What the launcher changes in other people's Jobs, so that they start and their logs can be collected."""

from __future__ import annotations

import copy
import re
from typing import Any, Final

from jobrelay.kube.labels import PREPARE
from jobrelay.kube.objects import Job
from jobrelay.kube.read import has_runner, main_container, title

#: As runc and crun put it: exec: "sh": executable file not found in $PATH
_NO_SHELL: Final = re.compile(
    r'exec: "?sh"?: |"sh": executable file not found|executable file `sh` not found'
)


def adapted(job: Job) -> list[str]:
    """Change the Job in place; return a line for each change.

    With OnFailure, and with a time to live, Kubernetes removes a failed Pod, and its log with it.
    """
    spec: Any = job["spec"] if isinstance(job.get("spec"), dict) else {}
    template: Any = spec.get("template")
    pod: Any = template.get("spec") if isinstance(template, dict) else None
    notes = []
    if isinstance(pod, dict) and pod.get("restartPolicy") != "Never":
        notes.append(f"{title(job)}: restartPolicy Never in place of {pod.get('restartPolicy', 'none')}")
        pod["restartPolicy"] = "Never"
    if spec.pop("ttlSecondsAfterFinished", None) is not None:
        notes.append(f"{title(job)}: without ttlSecondsAfterFinished; `delete` removes the Jobs of a run")
    return notes


def lacks_shell(reason: str, message: str) -> bool:
    """Whether a container could not start because its image has no shell."""
    return bool(_NO_SHELL.search(message)) and reason in (
        "StartError", "RunContainerError", "CreateContainerError", "ContainerCannotRun",
    )  # fmt: skip


def without_runner(job: Job) -> Job | None:
    """The Job with its program as the container's command; None if it does not use the runner."""
    job = copy.deepcopy(job)
    main = main_container(job)
    args = list(main.get("args") or ())
    if not has_runner(main) or "--" not in args:
        return None
    main["command"] = args[args.index("--") + 1 :]
    main["args"] = []
    pod = job["spec"]["template"]["spec"]
    pod["initContainers"] = [c for c in pod.get("initContainers") or () if c["name"] != PREPARE]
    return job

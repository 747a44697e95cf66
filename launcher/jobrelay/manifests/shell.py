"""Images without a shell: nothing can start the runner, so the program runs alone."""

from __future__ import annotations

import copy
import re
from typing import Final

from jobrelay.kube.objects import Job
from jobrelay.kube.read import has_runner, main_container

#: As runc and crun put it: exec: "sh": executable file not found in $PATH
_NO_SHELL: Final = re.compile(
    r'exec: "?sh"?: |"sh": executable file not found|executable file `sh` not found'
)


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
    return job

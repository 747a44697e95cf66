"""What the launcher changes in other people's Jobs, so that their logs and results can be collected."""

from __future__ import annotations

from typing import Any

from jobrelay.kube.objects import Job
from jobrelay.kube.read import title


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

"""What a stage may do in its container, and the other setting of `security:`, where one is refused."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from jobrelay.kube.objects import Job
from jobrelay.kube.read import has_runner, main_container, pod_spec, stage_of

#: What kubelets and admission say of a user or of rights that a Pod may not have.
_REFUSED: Final = re.compile(
    r"runAsNonRoot|non-numeric user|will run as root|violates PodSecurity|must not set securityContext|"
    r"unable to validate against any security context constraint"
)


def is_restricted(job: Job) -> bool:
    """Whether the stage has `security: restricted`."""
    return bool((cast(Any, pod_spec(job)).get("securityContext") or {}).get("runAsNonRoot"))


def other_security(job: Job, message: str) -> str:
    """Return which `security:` to try for a stage whose Pod was refused; empty if its rights are not why.

    Only a stage that the launcher rendered for a program has this key.
    """
    if not _REFUSED.search(message) or not has_runner(main_container(job)):
        return ""
    stage = stage_of(job)
    if is_restricted(job):
        return f"try security: image, which runs it as the image's own user (--set {stage}.security=image)"
    return (
        "try security: restricted, which gives it a numeric user without rights "
        f"(--set {stage}.security=restricted)"
    )

"""Says while a stage is followed that an attempt has failed or a Pod was lost, and what follows."""

from __future__ import annotations

from collections.abc import Callable

from jobrelay.figures import in_one_line
from jobrelay.verdicts import (
    JobView,
    Patience,
    Verdict,
    Waiting,
    attempts_allowed,
    failed_attempts,
    losses,
    lost_pods,
)
from jobrelay_runner.stages import Stage


class AttemptReporter:
    """Of one stage. Each failed attempt and each lost Pod is reported once."""

    def __init__(self, say: Callable[[str], None], stage: Stage, patience: Patience) -> None:
        self._say = say
        self._stage = stage
        self._patience = patience
        self._reported: set[str] = set()

    def notice(self, view: JobView, judged: Verdict | Waiting) -> None:
        """What is known of the Job now. Its end has a line of its own."""
        if isinstance(judged, Verdict) or view.job is None:
            return
        allowed = attempts_allowed(view.job)
        for number, attempt in enumerate(failed_attempts(view), 1):
            if number < allowed and self._is_new(attempt.pod):
                self._say(
                    f"  {self._stage}: attempt {number} of {allowed} failed: {in_one_line(attempt.cause)}; "
                    f"attempt {number + 1} of {allowed} follows"
                )
        for loss in losses(view):
            if self._is_new(loss.pod):
                resumes = ", which resumes from the last checkpoint" if self._stage == "train" else ""
                self._say(
                    f"  {self._stage}: Pod {loss.pod} was lost: {in_one_line(loss.cause)}; the Job starts "
                    f"another{resumes} ({lost_pods(view)} of at most {self._patience.disruptions})"
                )

    def _is_new(self, pod: str) -> bool:
        known = pod in self._reported
        self._reported.add(pod)
        return not known

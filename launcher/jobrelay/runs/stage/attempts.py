"""Reports failed attempts and lost Pods while a stage runs, and what happens next."""

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
    """Reports each failed attempt and each lost Pod of one stage once."""

    def __init__(self, say: Callable[[str], None], stage: Stage, patience: Patience) -> None:
        self._say = say
        self._stage = stage
        self._patience = patience
        self._reported: set[str] = set()

    def notice(self, view: JobView, judged: Verdict | Waiting) -> None:
        """Report what is new in the Job's state. The verdict is reported elsewhere."""
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

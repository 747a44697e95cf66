"""Follow one Job until there is a verdict. The only place that waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from launcher.executors.base import Submission, Updates
from launcher.verdicts import JobView, Patience, Verdict, Waiting, judge


def follow(
    updates: Updates,
    submission: Submission,
    patience: Patience,
    on_change: Callable[[JobView, Verdict | Waiting], None],
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Verdict, JobView]:
    """Wait for a Job's verdict; returns it with what was known last. Raises ApiLost.

    on_change is told whatever is newly known, the verdict too; what it raises ends the wait.
    Every state that may last only so long is timed from when it was first seen here; it is a
    change in what is known, or the end of such a time, that wakes this up, never an interval.
    """
    since: dict[str, float] = {}
    while True:
        seen = updates.seen()
        view = updates.view(submission)
        judged = judge(view, patience)
        on_change(view, judged)
        if isinstance(judged, Verdict):
            return judged, view
        now = clock()
        since = {limit.key: since.get(limit.key, now) for limit in judged.deadlines}
        left = []
        for limit in judged.deadlines:
            remaining = since[limit.key] + limit.seconds - now
            if remaining <= 0:
                return limit.verdict, view
            left.append(remaining)
        updates.wait(seen, min(left, default=None))

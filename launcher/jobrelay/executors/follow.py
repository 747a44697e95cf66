"""Follow one Job until there is a verdict. The only place that waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from jobrelay.executors.base import Submission, Updates
from jobrelay.verdicts import JobView, Patience, Verdict, Waiting, judge


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
    Before such a time decides, all is looked at anew: what is known may come by a dead connection.
    """
    since: dict[str, float] = {}
    looked_again: set[str] = set()
    while True:
        seen = updates.seen()
        view = updates.view(submission)
        judged = judge(view, patience)
        on_change(view, judged)
        if isinstance(judged, Verdict):
            return judged, view
        now = clock()
        since = {limit.key: since.get(limit.key, now) for limit in judged.deadlines}
        looked_again &= since.keys()
        left = {limit.key: since[limit.key] + limit.seconds - now for limit in judged.deadlines}
        over = next((limit for limit in judged.deadlines if left[limit.key] <= 0), None)
        if over is None:
            updates.wait(seen, min(left.values(), default=None))
        elif over.key in looked_again:
            return over.verdict, view
        else:
            looked_again.add(over.key)
            updates.refresh()

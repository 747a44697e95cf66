"""Follow one Job until there is a verdict. The only code that waits for a Job."""

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
    """Wait for a Job's verdict; returns it with the last known state. Raises ApiLost.

    on_change receives every new state, the verdict too; an exception in it ends the wait. A state's time
    limit counts from when this launcher first saw the state. Only a change or the end of a limit wakes this
    function, never a polling interval. Before a limit decides, everything is listed again: the known state
    may have come over a connection that is now dead.
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

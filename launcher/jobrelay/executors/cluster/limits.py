"""How long the launcher waits for a cluster: every time limit, and the one back-off between tries."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Final

#: For a connection to be established.
CONNECT_SECONDS: Final = 5.0
#: Between two reads of one connection, so that the next try starts within 30.
READ_SECONDS: Final = 29.0
#: Without a successful call, before the launcher gives up on the API (rows 1 and 6 of docs/faults.md).
GIVE_UP_SECONDS: Final = 300.0
#: The same for the first call of all, unless another time is set: nothing runs yet, and the address may
#: simply be wrong.
FIRST_GIVE_UP_SECONDS: Final = 5.0
#: For a credential plugin: you may have to log in with a browser.
PLUGIN_SECONDS: Final = 300.0
#: For a deleted object to disappear (row 13).
DELETION_SECONDS: Final = 60.0
#: Before the launcher reports that it waits for the Pod that reads the volume, if nothing shows why.
SILENCE_SECONDS: Final = 10.0
#: For that Pod to start.
START_SECONDS: Final = 120.0
#: A watch may be opened OPENINGS times without a pause, then at most that often per OPENING_SECONDS. The
#: back-off is not enough: an event resets it, even if the server ends the watch right after it.
OPENINGS: Final = 5
OPENING_SECONDS: Final = 5.0
#: Before the next request for the log of a container that is only being set up, or has not ended yet.
LOG_SECONDS: Final = 0.2
#: Consecutive 5xx and 429 answers before the launcher gives up on a log: about a minute.
LOG_REFUSALS: Final = 22


class Backoff:
    """The pauses between tries of one operation: longer after each consecutive failure, up to 5 s."""

    def __init__(self, sleep: Callable[[float], object] | None = None) -> None:
        """sleep: pauses for that many seconds; None: time.sleep."""
        self._sleep = sleep
        self.failures = 0  # consecutive

    def reset(self) -> None:
        """Forget the failures after a success."""
        self.failures = 0

    def wait(self, asked: float | None = None, *, at_once: int = 0, at_most: float = math.inf) -> None:
        """Count a failure, and pause before the next try.

        asked: the pause that the server requested, in seconds. at_once: the number of consecutive failures
        after which the next try follows without a pause. at_most: the longest pause, in seconds.
        """
        self.failures += 1
        if self.failures > at_once:
            seconds = pause(self.failures) if asked is None else asked
            (self._sleep or time.sleep)(min(seconds, max(at_most, 0.0)))


def pause(failures: int) -> float:
    """Seconds before the next try after that many consecutive failures, with jitter; 5 at most."""
    return min(0.1 * 2.0 ** min(failures, 10), 5.0) * random.uniform(0.5, 1.0)

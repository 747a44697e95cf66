"""How long the launcher waits for a cluster: every time limit, and the one back-off between two tries."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Final

#: For a connection to be made.
CONNECT_SECONDS: Final = 5.0
#: Between two reads of one connection, so that the next try starts within 30.
READ_SECONDS: Final = 29.0
#: Without one good call, after which the API is given up (rows 1 and 6 of docs/faults.md).
GIVE_UP_SECONDS: Final = 300.0
#: The same for the very first call, unless somebody has asked for another time: nothing runs yet, and the
#: address may simply be wrong.
FIRST_GIVE_UP_SECONDS: Final = 5.0
#: For a credential plugin: somebody may have to log in with a browser.
PLUGIN_SECONDS: Final = 300.0
#: That a deleted object may take to be gone (row 13).
DELETION_SECONDS: Final = 60.0
#: After which it is reported that the Pod that reads the volume is waited for, where nothing says why.
SILENCE_SECONDS: Final = 10.0
#: For that Pod to start.
START_SECONDS: Final = 120.0
#: A watch is opened at once so many times; from then on, no more often than that in so many seconds. Events
#: are good news, and a server that sends one and then ends the watch would be asked without a pause.
OPENINGS: Final = 5
OPENING_SECONDS: Final = 5.0
#: Before a log is asked for again whose container is only being set up, or has not ended yet.
LOG_SECONDS: Final = 0.2
#: 5xx and 429 in a row, after which a log is given up: about a minute.
LOG_REFUSALS: Final = 22


class Backoff:
    """The pauses between tries of one thing: longer after every failure in a row, up to five seconds."""

    def __init__(self, sleep: Callable[[float], object] | None = None) -> None:
        """sleep: how to pause; None: time.sleep."""
        self._sleep = sleep
        self.failures = 0  # in a row

    def reset(self) -> None:
        """It has worked."""
        self.failures = 0

    def wait(self, asked: float | None = None, *, at_once: int = 0, at_most: float = math.inf) -> None:
        """Count a failure, and pause before the next try.

        asked: the pause that the server has asked for, if it has. at_once: after so many failures in a
        row, the next try follows without a pause. at_most: the longest pause.
        """
        self.failures += 1
        if self.failures > at_once:
            seconds = pause(self.failures) if asked is None else asked
            (self._sleep or time.sleep)(min(seconds, max(at_most, 0.0)))


def pause(failures: int) -> float:
    """Seconds before the next try, after so many failures in a row; with jitter."""
    return min(0.1 * 2.0 ** min(failures, 10), 5.0) * random.uniform(0.5, 1.0)

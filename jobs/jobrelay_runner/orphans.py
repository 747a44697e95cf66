"""No process of a stage outlives the one that started it."""

from __future__ import annotations

import signal
import sys


def die_with_parent() -> None:
    """Where Linux offers it: a parent that is killed takes this process along.

    In a container the end of PID 1 does this. Elsewhere a stage without its supervisor would go on
    writing checkpoints beside the next attempt, and a worker of a training would wait for the others.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    pr_set_pdeathsig = 1  # <linux/prctl.h>
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)

"""Exit codes of a stage's process, and how the launcher interprets them.

The reserved codes are those of BSD's sysexits.h, so that they collide neither with Python's own
(1, 2) nor with the shell's (126, 127) nor with signals (128 + n).
"""

from __future__ import annotations

from typing import Final

SUCCEEDED: Final = 0
FAILED: Final = 1
#: The configuration, the data or the volume cannot work; a second attempt would end the same way.
BAD_CONFIG: Final = 78  # EX_CONFIG
#: An input on the volume does not match its record: another model, a torn file.
BAD_EVIDENCE: Final = 65  # EX_DATAERR
#: The stage was started early and did no work, because the previous stage failed.
NOT_BEGUN: Final = 69  # EX_UNAVAILABLE
#: Another process of this stage has taken over (see fence); that process reports the stage's outcome.
SUPERSEDED: Final = 75  # EX_TEMPFAIL
#: Another Pod of this stage was lost, and this one cannot continue without it; that Pod's end is the cause.
PEER_LOST: Final = 76  # EX_PROTOCOL
#: SIGTERM: the work was saved at the next step boundary.
TERMINATED: Final = 143  # 128 + SIGTERM

#: Codes that say nothing about the stage: the end, or the start, of another Pod is the cause.
FOLLOWING: Final = frozenset({SUPERSEDED, PEER_LOST})

#: Never worth a second attempt (the Job's podFailurePolicy says the same to Kubernetes).
FINAL: Final = frozenset({BAD_CONFIG, BAD_EVIDENCE, NOT_BEGUN})

#: Codes that only the runner and the built-in programs use in this meaning.
OURS: Final = FINAL | FOLLOWING

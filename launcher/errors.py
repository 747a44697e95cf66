"""Every error a user can see, and the exit code it ends with.

JobRelayError
├── BadInput             2  configuration, manifest, argument, context or permission
│   └── UnknownRun       2  a run that is not there
├── ApiError             2  the API server answers, and refuses (executors.cluster.api)
├── ApiLost              5  the API server does not answer; the Job may still run
├── Conflict             6  there is something of that name with other content
├── EvidenceIncomplete   7  it finished, but a log or a result is missing or not what it was
└── StageEnded        1-8   a stage did not succeed; the code is its verdict's
"""

from __future__ import annotations

from enum import IntEnum

from jobs.contract.redaction import redacted
from launcher.hints import Command, Hint


class Exit(IntEnum):
    """What the launcher's exit code means."""

    SUCCEEDED = 0
    FAILED = 1
    BAD_INPUT = 2
    COULD_NOT_START = 3
    OUT_OF_TIME = 4
    API_LOST = 5
    CONFLICT = 6
    INCOMPLETE = 7
    DISRUPTED = 8
    INTERRUPTED = 130
    TERMINATED = 143


class JobRelayError(Exception):
    """`what` happened to which object, and what to do next (`hint`, a command if there is one).

    `what` may quote any other error, so credentials are taken out of it.
    """

    exit_code = Exit.FAILED

    def __init__(self, what: str, hint: Hint = "") -> None:
        self.what = redacted(what)
        super().__init__(self.what)
        self.hint = hint


class BadInput(JobRelayError):
    exit_code = Exit.BAD_INPUT


class UnknownRun(BadInput):
    """Neither a Job nor a file on the volume is of that run."""

    def __init__(self, run: str, place: str) -> None:
        super().__init__(f"there is no run {run} on {place}", Command("list"))


class ApiLost(JobRelayError):
    exit_code = Exit.API_LOST


class Conflict(JobRelayError):
    exit_code = Exit.CONFLICT


class EvidenceIncomplete(JobRelayError):
    exit_code = Exit.INCOMPLETE


class StageEnded(JobRelayError):
    """A stage ended without success."""

    def __init__(self, exit_code: Exit, what: str, hint: Hint = "") -> None:
        super().__init__(what, hint)
        self.exit_code = exit_code


class Terminated(BaseException):
    """SIGTERM has come. As KeyboardInterrupt it is no Exception: what must be undone is undone, and
    nothing else catches it."""

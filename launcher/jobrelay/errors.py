"""Every error a user can see, with its exit code.

JobRelayError
├── BadInput             2  configuration, manifest, argument, context or permission
│   └── UnknownRun       2  the run does not exist
├── ApiError             2  the API server refuses a request (executors.cluster.api)
├── ApiLost              5  the API server does not answer; the Job may still run
├── Conflict             6  an object or folder of that name exists with other content
├── EvidenceIncomplete   7  the run finished, but a log or a result is missing or has changed
└── StageEnded        1-8   a stage did not succeed; its verdict has the code
"""

from __future__ import annotations

from enum import IntEnum

from jobrelay.hints import Command, Hint
from jobrelay_runner.text.redaction import redacted


class Exit(IntEnum):
    """Exit codes of the launcher."""

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
    """What happened to which object (`what`), and what to do next (`hint`, a command if there is one).

    `what` may quote any other error, so credentials in it are redacted.
    """

    exit_code = Exit.FAILED

    def __init__(self, what: str, hint: Hint = "") -> None:
        self.what = redacted(what)
        super().__init__(self.what)
        self.hint = hint


class BadInput(JobRelayError):
    exit_code = Exit.BAD_INPUT


class UnknownRun(BadInput):
    """The run has neither a Job nor a file on the volume."""

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
    """SIGTERM has arrived. Like KeyboardInterrupt it is not an Exception: `except Exception` does not catch
    it, and `finally` still cleans up."""

"""`wait STAGE`: opens when that stage of this run has succeeded, fails when it no longer can.

With kubectl alone, the gate keeps the stages in order, as an initContainer with 64Mi: no torch. A
stage that the launcher starts early waits at a gate, too (jobrelay_runner.order.early).
The gate polls a file, because the file may be on a network volume.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

from jobrelay_runner import exit_codes
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import Record, RecordError, read_record

TELL_SECONDS: Final = 30.0
#: Kubernetes waits 10 s, 20 s, 40 s … before it starts another attempt of a Job, at most 6 minutes.
NEXT_ATTEMPT_SECONDS: Final = 600.0
UNREADABLE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = (0.2, 0.4, 0.7, 1.0)


class Gate:
    """Waits for the record of a stage whose configuration has the hash `config_hash`.

    Tests can replace `clock` (seconds, monotonic) and `sleep`.
    """

    def __init__(
        self,
        config_hash: str,
        folder: RunFolder,
        stage: Stage,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path: Path = folder.record(stage)
        self._root = folder.root
        self.stage = stage
        self._name = f"run {folder.run}, stage {stage}"
        self._hash = config_hash
        self._clock = clock
        self._sleep = sleep
        self._seen: object = None
        self._seen_since = 0.0

    def wait(self) -> int:
        """Return 0 once the stage has succeeded with this configuration, 1 if it has failed for good."""
        next_word = self._clock()
        polls = 0
        while True:
            state, verdict = self.look()
            if verdict is not None:
                print(state, flush=True, file=sys.stdout if verdict == exit_codes.SUCCEEDED else sys.stderr)
                return verdict
            if self._clock() >= next_word:
                print(f"waiting for {self._name}: {state}", flush=True)
                next_word = self._clock() + TELL_SECONDS
            self._sleep(_POLL_SECONDS[min(polls, len(_POLL_SECONDS) - 1)])
            polls += 1

    def look(self) -> tuple[str, int | None]:
        """Return the message to print, and the exit code of `wait` if the wait is over."""
        try:
            record = read_record(self._path, root=self._root)
        except RecordError as error:
            if self._unchanged_for("unreadable") >= UNREADABLE_SECONDS:
                return f"{self._name}: {error}", exit_codes.FAILED
            return "its record cannot be read yet", None
        if record is None:
            self._unchanged_for(None)
            return f"{self._path} does not exist yet", None
        unchanged = self._unchanged_for((record.pod, record.started, record.attempt, record.status))
        if record.config_hash != self._hash:
            return f"{self._path} records another configuration", None
        if record.status == "succeeded":
            return f"{self._name} has succeeded", exit_codes.SUCCEEDED
        if record.status == "failed":
            return self._failed(record, unchanged)
        return f"attempt {record.attempt} is running in {record.pod}", None

    def _failed(self, record: Record, unchanged: float) -> tuple[str, int | None]:
        why = record.error or "no reason given"
        failure = f"{self._name} failed in {record.pod}, exit code {record.exit_code}: {why}"
        if record.exit_code in exit_codes.FINAL:
            return failure, exit_codes.FAILED
        if unchanged >= NEXT_ATTEMPT_SECONDS:
            minutes = int(NEXT_ATTEMPT_SECONDS / 60)
            return f"{failure} (no other attempt has started for {minutes} minutes)", exit_codes.FAILED
        return f"attempt {record.attempt} failed ({why}); there may be another", None

    def _unchanged_for(self, state: object) -> float:
        """Return for how many seconds `state` has not changed."""
        now = self._clock()
        if state != self._seen:
            self._seen, self._seen_since = state, now
        return now - self._seen_since


def wait(config_hash: str, folder: RunFolder, stage: Stage) -> int:
    """Wait at the gate; SIGTERM and SIGINT end the wait at once (PID 1 has no default handlers)."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    return Gate(config_hash, folder, stage).wait()

"""How a Pod with another index than 0 comes to its end: after the one with index 0, and as that one did."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from jobs.assignment import Assignment
from jobs.contract.record import Record, RecordError, read_record
from jobs.errors import PeerLost

#: It is a file on a volume that may be a network's, so it is polled.
_POLL_SECONDS: Final = 0.5


def wait_for_the_record(assignment: Assignment, sleep: Callable[[float], None] = time.sleep) -> None:
    """Return once the record says that the stage has succeeded.

    Raises PeerLost if it says anything else, or that another Pod has begun anew.
    There is no limit: index 0 either writes the record, or is replaced, or the Job ends and this Pod too.
    """
    first: Record | None = None
    while True:
        record = _record(assignment)
        if record is not None and record.config_hash == assignment.config_hash:
            if record.status == "succeeded":
                return
            if record.status == "failed":
                raise PeerLost(f"index 0 ({record.pod}) failed: {record.error}")
            first = first or record
            if (record.pod, record.started) != (first.pod, first.started):
                raise PeerLost(f"index 0 ({first.pod}) was lost; {record.pod} has replaced it")
        sleep(_POLL_SECONDS)


def _record(assignment: Assignment) -> Record | None:
    try:
        folder = assignment.folder
        return read_record(folder.record(assignment.stage), root=folder.root)
    except RecordError:
        return None  # it is being replaced at this moment, or the volume is slow

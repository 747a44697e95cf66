"""How a Pod with an index other than 0 ends: after Pod 0, and with the same outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from jobrelay_runner.context import StageContext
from jobrelay_runner.errors import PeerLost
from jobrelay_runner.volume.record import Record, RecordError, read_record

#: The record is polled, because it may be on a network volume.
_POLL_SECONDS: Final = 0.5


def wait_for_the_record(context: StageContext[Any], sleep: Callable[[float], None] = time.sleep) -> None:
    """Return once the record says that the stage has succeeded.

    Raises PeerLost if the record shows any other end, or a restart by another Pod.
    There is no time limit: Pod 0 writes the record or is replaced, or the Job ends and this Pod with it.
    """
    first: Record | None = None
    while True:
        record = _record(context)
        if record is not None and record.config_hash == context.config_hash:
            if record.status == "succeeded":
                return
            if record.status == "failed":
                raise PeerLost(f"index 0 ({record.pod}) failed: {record.error}")
            first = first or record
            if (record.pod, record.started) != (first.pod, first.started):
                raise PeerLost(f"index 0 ({first.pod}) was lost; {record.pod} has replaced it")
        sleep(_POLL_SECONDS)


def _record(context: StageContext[Any]) -> Record | None:
    try:
        folder = context.folder
        return read_record(folder.record(context.stage), root=folder.root)
    except RecordError:
        return None  # the record is being replaced at this moment, or the volume is slow

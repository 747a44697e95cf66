"""A stage that was started early: it imports while the previous stage works, then waits for its record."""

from __future__ import annotations

from typing import Any, Final

from jobrelay_runner import exit_codes
from jobrelay_runner.context import StageContext
from jobrelay_runner.errors import NotBegun, Terminated
from jobrelay_runner.order.gate import Gate
from jobrelay_runner.process import StageProcess
from jobrelay_runner.termination import LastWords

#: The file may be on a network volume: short enough for a prompt start, long enough to cause no load.
_POLL_SECONDS: Final = 0.05


def process_at_the_gate(context: StageContext[Any], gate: Gate, last_words: LastWords) -> StageProcess | None:
    """Start the stage's process, which imports and then waits; return it once the gate is open.

    Returns None if the gate is already open: then there is nothing to wait for. Raises NotBegun if the
    previous stage has failed for good, Terminated if the wait was interrupted.
    """
    state, verdict = gate.look()
    if verdict == exit_codes.SUCCEEDED:
        return None
    last_words.say(f"started early, waits until {gate.stage} has succeeded")
    process = StageProcess(context, last_words.tee, last_words.meter)

    def is_over() -> bool:
        nonlocal state, verdict
        state, verdict = gate.look()
        return verdict is not None

    if not process.hold_until(is_over, _POLL_SECONDS):
        if process.was_terminated():
            process.dismiss()
            raise Terminated(f"stopped while it waited for {gate.stage}")
    elif verdict != exit_codes.SUCCEEDED:
        process.dismiss()
        raise NotBegun(f"not started: {state}")
    return process

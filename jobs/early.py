"""A stage that was started early: it imports while the one before works, then waits for its record."""

from __future__ import annotations

from typing import Final

from jobs.assignment import Assignment
from jobs.contract import exit_codes
from jobs.errors import NotBegun, Terminated
from jobs.gate import Gate
from jobs.lastwords import LastWords
from jobs.process import StageProcess

#: The file may be a network's: often enough to begin soon, and no load.
_POLL_SECONDS: Final = 0.05


def process_at_the_gate(assignment: Assignment, gate: Gate, last_words: LastWords) -> StageProcess | None:
    """The stage's process, which has imported all and waits to be let go, once the gate is open.

    None if it was open from the first: then nobody need wait. Raises NotBegun if the stage before has
    failed for good, Terminated if somebody has ended the wait.
    """
    said, verdict = gate.look()
    if verdict == exit_codes.SUCCEEDED:
        return None
    last_words.say(f"started early, waits until {gate.stage} has succeeded")
    process = StageProcess(assignment, last_words.tee, last_words.meter)

    def is_over() -> bool:
        nonlocal said, verdict
        said, verdict = gate.look()
        return verdict is not None

    if not process.hold_until(is_over, _POLL_SECONDS):
        if process.was_terminated():
            process.dismiss()
            raise Terminated(f"stopped while it waited for {gate.stage}")
    elif verdict != exit_codes.SUCCEEDED:
        process.dismiss()
        raise NotBegun(f"not started: {said}")
    return process

"""The name of a stage: part of the names of its Job, its record and its logs."""

from __future__ import annotations

import re
from typing import Final

Stage = str

STAGE_MAX: Final = 22
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
#: In the local folder of a run, report.json is the outcome of the whole run.
_TAKEN: Final = ("report",)


def check_stage(name: str) -> Stage:
    """Return `name` if a stage can have it; else raise ValueError.

    A Job's name, RUN-STAGE, has at most 63 characters, of which a run's id takes up to 40.
    """
    if len(name) > STAGE_MAX or not _LABEL.fullmatch(name):
        raise ValueError(
            f"stage {name!r}: must be lower-case letters, digits and '-', start and end with a letter or "
            f"digit, and have at most {STAGE_MAX} characters"
        )
    if name in _TAKEN:
        raise ValueError(f"stage {name!r}: {name}.json in the folder of the run is another file")
    return name

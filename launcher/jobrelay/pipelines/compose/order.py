"""The order of stages: by `depends_on`, else by what their names say, else as in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from jobrelay.errors import BadInput

#: What people call the steps. The first word of a name that is one of them decides.
_PHASES: Final = (
    ("prepare", "prep", "preprocess", "download", "data"),
    ("train", "finetune"),
    ("eval", "evaluat", "test", "valid"),
    ("infer", "predict"),
)
_NO_PHASES: Final = ("database", "databases", "datadog")


def order(names: Sequence[str], needs: Mapping[str, Sequence[str]], source: str) -> tuple[list[str], str]:
    """Names in order, and why. needs: name to those before it. Raises BadInput for a cycle."""
    phases = {name: found for name in names if (found := phase(name)) is not None}
    in_phases = iter(sorted(phases, key=phases.__getitem__))
    # Only names that say something change places, among themselves.
    wanted = [next(in_phases) if name in phases else name for name in names]
    result: list[str] = []
    for name in wanted:
        _append(name, needs, (), result, source)
    if len(result) == 1:
        return result, "the only stage"
    edges = [f"{name} after {', '.join(needs[name])}" for name in result if needs.get(name)]
    reasons = ["depends_on: " + "; ".join(edges)] if edges else []
    if wanted != list(names):
        reasons.append("by name: training, evaluation, inference")
    return result, "; else ".join(reasons) or "as in the file"


def phase(name: str) -> int | None:
    """Which step a name says: smaller ones come first. None: it says none."""
    for word in re.split(r"[-_.]", name.lower()):
        for step, beginnings in enumerate(_PHASES):
            if word.startswith(beginnings) and word not in _NO_PHASES:
                return step
    return None


def _append(
    name: str, needs: Mapping[str, Sequence[str]], path: tuple[str, ...], result: list[str], source: str
) -> None:
    """Append what a stage needs, then the stage itself, unless they are there."""
    if name in path:
        raise BadInput(f"{source}: depends_on: a cycle: {' → '.join((*path[path.index(name) :], name))}")
    if name in result:
        return
    for need in needs.get(name, ()):
        _append(need, needs, (*path, name), result, source)
    result.append(name)

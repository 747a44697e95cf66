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


def order(names: Sequence[str], needs: Mapping[str, Sequence[str]], source: str) -> tuple[list[str], str]:
    """Names in order, and why. needs: name to those before it. Raises BadInput for a cycle."""
    phases = {name: phase for name in names if (phase := _phase(name)) is not None}
    in_phases = iter(sorted(phases, key=phases.__getitem__))
    # Only names that say something change places, among themselves.
    wanted = [next(in_phases) if name in phases else name for name in names]
    result: list[str] = []
    while len(result) < len(wanted):
        ready = [n for n in wanted if n not in result and all(need in result for need in needs.get(n, ()))]
        if not ready:
            raise BadInput(f"{source}: depends_on: a cycle: {' → '.join(_cycle(wanted, result, needs))}")
        result.append(ready[0])
    if len(result) == 1:
        return result, "the only stage"
    edges = [f"{name} after {', '.join(needs[name])}" for name in result if needs.get(name)]
    reasons = ["depends_on: " + "; ".join(edges)] if edges else []
    if wanted != list(names):
        reasons.append("by name: training, evaluation, inference")
    return result, "; else ".join(reasons) or "as in the file"


def _phase(name: str) -> int | None:
    for word in re.split(r"[-_.]", name.lower()):
        for phase, beginnings in enumerate(_PHASES):
            if word.startswith(beginnings) and word not in ("database", "datadog"):
                return phase
    return None


def _cycle(names: Sequence[str], done: Sequence[str], needs: Mapping[str, Sequence[str]]) -> list[str]:
    path = [next(name for name in names if name not in done)]
    while True:
        following = next(need for need in needs[path[-1]] if need not in done)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)

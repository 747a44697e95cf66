"""Conclusions from a sweep, computed from its rows alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobrelay.sweep.pipeline import Objective, SweptPipeline
from jobrelay.sweep.table import Row
from jobrelay_runner.text.counting import counted


@dataclass(frozen=True)
class Point:
    """The trials that share one value of one key (see `points`), over all seeds."""

    value: Any
    figures: tuple[float, ...]  # that the best trial is chosen by
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)


def points(
    rows: Sequence[Row], key: str, objective: Objective, base: dict[str, Any] | None = None
) -> list[Point]:
    """One point per value of `key`, numbers ascending, from the trials whose other keys are as in `base`.

    base: None uses all trials.
    """
    groups: dict[Any, list[Row]] = {}
    for row in objective.known(rows):
        settings = dict(row.trial.settings)
        others = base is None or all(settings[name] == base[name] for name in settings if name != key)
        if key in settings and others:
            groups.setdefault(settings[key], []).append(row)
    values = list(groups)
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    return [
        Point(
            value,
            tuple(objective.of(row) for row in groups[value]),
            tuple(row.figures[objective.seconds] for row in groups[value]),
        )
        for value in values
    ]


def observations(
    rows: Sequence[Row], keys: Sequence[str], pipeline: SweptPipeline, base: dict[str, Any] | None = None
) -> list[str]:
    """Lines about the best trial, about each key, and about the time that a better figure costs.

    All figures are those that the best trial is chosen by. Only the best trial, once chosen, may also have
    others reported.
    """
    objective = pipeline.objective(rows)
    good, known = [row for row in rows if row.status == "succeeded"], objective.known(rows)
    lines = []
    if failed := len(rows) - len(good):
        lines.append(f"{failed} of {counted(len(rows), 'trial')} failed")
    if without := len(good) - len(known):
        lines.append(f"{without} of {counted(len(rows), 'trial')} measured no {objective.column}")
    if not known:
        return lines
    lines.append(pipeline.best(max(known, key=objective.rank), objective))
    for key in keys:
        lines += _of_key(key, points(rows, key, objective, base), objective)
    return [*lines, *pipeline.notes(known), *_trade_off(known, objective)]


def _of_key(key: str, found: Sequence[Point], objective: Objective) -> list[str]:
    if len(found) < 2:
        return []
    first, last = found[0], found[-1]
    best = max(found, key=lambda point: objective.gain(point.median, 0.0))
    gain = objective.gain(best.median, first.median)
    shown = objective.shown
    lines = [
        f"{key}: {first.value} → {last.value}: {objective.name} {shown(first.median)} → "
        f"{shown(last.median)}, best {shown(best.median)} at {best.value}; "
        f"time {first.median_seconds:.1f} → {last.median_seconds:.1f} s"
    ]
    # diminishing returns: the first value with nine tenths of the total gain
    enough = next(p for p in found if objective.gain(p.median, first.median) >= 0.9 * gain)
    if gain > 0 and enough.value not in (first.value, best.value):
        lines.append(f"{key}: {enough.value} has nine tenths of that gain, in {enough.median_seconds:.1f} s")
    return lines


def _trade_off(known: Sequence[Row], objective: Objective) -> list[str]:
    """The trials that no other trial beats in both the figure and time."""
    front: list[Row] = []
    for row in sorted(known, key=lambda row: (row.figures[objective.seconds], -objective.rank(row)[0])):
        if not front or objective.gain(objective.of(row), objective.of(front[-1])) > 0:
            front.append(row)
    if len(front) < 2:
        return []
    steps = ", ".join(
        f"{objective.shown(objective.of(row))} in {row.figures[objective.seconds]:.1f} s" for row in front
    )
    return [f"no trial is both better and quicker than these: {steps}"]

"""Plots of the chosen figure and of time against a key, as SVG, and as PNG if matplotlib is installed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from jobrelay.report.curves import Curve, trend
from jobrelay.report.drawing import write
from jobrelay.sweep.observations import Point
from jobrelay.sweep.pipeline import Objective


def draw(key: str, points: Sequence[Point], folder: Path, band: str, objective: Objective) -> list[Path]:
    """Draw `KEY-FIGURE` and `KEY-time` into the folder; return the files.

    The line is the median of a value's trials, the band their range. band: its name in the legend.
    """
    figures = _plot(objective.title, key, points, [point.figures for point in points], band)
    seconds = _plot(
        objective.time_title, key, points, [point.seconds for point in points], band, from_zero=True
    )
    # no hyphen: it separates the key from the figure
    pictures = {re.sub(r"[^\w.+]", "_", objective.name): figures, "time": seconds}
    return [
        path
        for name, picture in pictures.items()
        if picture
        for path in write(picture, folder, f"{key}-{name}")
    ]


def _plot(
    title: str,
    key: str,
    points: Sequence[Point],
    samples: Sequence[Sequence[float]],
    band: str,
    *,
    from_zero: bool = False,
) -> Curve | None:
    """The plot; None if no sample is finite (a diverged loss may leave NaN)."""
    known = [
        (point.value, finite)
        for point, each in zip(points, samples, strict=True)
        if (finite := [sample for sample in each if math.isfinite(sample)])
    ]
    if not known:
        return None
    return trend(
        title,
        [value for value, _ in known],
        [each for _, each in known],
        x_label=key,
        band=band,
        from_zero=from_zero,
    )

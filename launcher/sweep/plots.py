"""Accuracy and time against each key of a sweep, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl

from launcher.sweep.observations import Point

mpl.use("Agg")  # no window, no display
from matplotlib import pyplot as plt

#: What is drawn of a point: (name of the file, label of the axis, its samples)
_DRAWN: tuple[tuple[str, str, Callable[[Point], tuple[float, ...]]], ...] = (
    ("accuracy", "test accuracy", lambda point: point.accuracy),
    ("time", "seconds of training", lambda point: point.seconds),
)


def draw(key: str, points: Sequence[Point], folder: Path) -> list[Path]:
    """`KEY-accuracy` and `KEY-time`, as PNG and SVG, in the folder; the seeds are a band."""
    return [
        path for name, label, samples in _DRAWN for path in _plot(key, points, name, label, samples, folder)
    ]


def _plot(
    key: str,
    points: Sequence[Point],
    name: str,
    label: str,
    samples: Callable[[Point], tuple[float, ...]],
    folder: Path,
) -> list[Path]:
    numbers = all(isinstance(point.value, int | float) and point.value > 0 for point in points)
    places = [point.value if numbers else number for number, point in enumerate(points)]
    values = [sorted(samples(point)) for point in points]
    # hash salt and date: the same rows give the same file, byte for byte
    with mpl.rc_context({"svg.hashsalt": "jobrelay", "font.size": 11, "axes.spines.top": False,
                         "axes.spines.right": False}):  # fmt: skip
        figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        axes.plot(places, [_middle(each) for each in values], marker="o", color="#0969da")
        if any(len(each) > 1 for each in values):
            axes.fill_between(places, [each[0] for each in values], [each[-1] for each in values],
                              color="#0969da", alpha=0.2, linewidth=0, label="all seeds")  # fmt: skip
            axes.legend(frameon=False)
        if numbers and max(places) >= 20 * min(places):
            axes.set_xscale("log")
        axes.set_xticks(places, [f"{point.value:g}" if numbers else str(point.value) for point in points])
        axes.minorticks_off()
        axes.set_xlabel(key)
        axes.set_ylabel(label)
        axes.grid(axis="y", alpha=0.3)
        paths = [folder / f"{key}-{name}.{kind}" for kind in ("png", "svg")]
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)
    return paths


def _middle(values: Sequence[float]) -> float:
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2

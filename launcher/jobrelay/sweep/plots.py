"""Accuracy and time against a key of a sweep, as PNG and SVG."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from jobrelay.sweep.design import ChooseOn
from jobrelay.sweep.observations import Point

_COLOUR: Final = "#0969da"


#: What the accuracy of a plot is called.
ACCURACIES: Final[dict[ChooseOn, str]] = {
    "validation": "accuracy on held-out training images", "test": "test accuracy",
}  # fmt: skip


def draw(key: str, points: Sequence[Point], folder: Path, band: str, accuracy: str) -> None:
    """`KEY-accuracy` and `KEY-time`, as PNG and SVG, in the folder. accuracy: what it is called.

    The line is the median of the trials of a value; from the least to the greatest of them is a band,
    which the legend calls so.
    """
    drawn = {
        "accuracy": (accuracy, [point.accuracy for point in points]),
        "time": ("seconds of training", [point.seconds for point in points]),
    }
    style = mpl.rc_context(
        {
            "svg.hashsalt": "jobrelay",  # else ids are drawn by chance; the same rows give the same file
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    with style:
        for name, (label, samples) in drawn.items():
            figure = _plot(key, [point.value for point in points], label, samples, band)
            if name == "time":
                figure.axes[0].set_ylim(bottom=0)  # half as long looks half as long
            figure.savefig(folder / f"{key}-{name}.png", dpi=150)
            figure.savefig(folder / f"{key}-{name}.svg", metadata={"Date": None})


def _plot(
    key: str, values: Sequence[object], label: str, samples: Sequence[Sequence[float]], band: str
) -> Figure:
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and v > 0]
    is_scale = len(numbers) == len(values)  # else every value has its place: they are names
    places = numbers if is_scale else list(map(float, range(len(values))))
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(places, [statistics.median(each) for each in samples], marker="o", color=_COLOUR)
    if any(len(each) > 1 for each in samples):
        least, greatest = [min(each) for each in samples], [max(each) for each in samples]
        axes.fill_between(places, least, greatest, color=_COLOUR, alpha=0.2, linewidth=0, label=band)
        axes.legend(frameon=False)
    if is_scale and max(places) >= 8 * min(places):  # powers of two, of ten
        axes.set_xscale("log")
    axes.set_xticks(places, [f"{v:g}" if isinstance(v, float) else str(v) for v in values])
    axes.minorticks_off()
    axes.set_xlabel(key)
    axes.set_ylabel(label)
    axes.grid(axis="y", alpha=0.3)
    return figure

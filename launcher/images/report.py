"""A comparison as people read it: a table, JSON, a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any, Final

from launcher.images.comparing import Contender, Sample
from launcher.images.measuring import Weight
from launcher.wording import mebibytes

_COLOURS: Final = ("#0969da", "#8c959f")


@dataclass(frozen=True)
class Compared:
    """An image with all that was found of it."""

    contender: Contender
    weight: Weight
    samples: Sequence[Sample]

    @property
    def name(self) -> str:
        return self.contender.image


@dataclass(frozen=True)
class Metric:
    """A row of the table. values: of one image; several where it was measured in every run."""

    label: str
    values: Callable[[Compared], Sequence[float]]
    wording: Callable[[float], str]


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _count(value: float) -> str:
    return f"{value:,.0f}"


METRICS: Final = (
    Metric("bytes on disk", lambda image: [image.weight.bytes_on_disk], mebibytes),
    Metric("compressed", lambda image: [image.weight.compressed_bytes], mebibytes),
    Metric("layers", lambda image: [image.weight.layers], _count),
    Metric("files", lambda image: [image.weight.files], _count),
    Metric("Pod to first batch", lambda image: [s.seconds_to_first_batch for s in image.samples], _seconds),
    Metric("train, wall time", lambda image: [s.train_seconds for s in image.samples], _seconds),
    Metric("train, CPU time", lambda image: [s.cpu_seconds for s in image.samples], _seconds),
    Metric("peak memory", lambda image: [s.peak_memory_bytes for s in image.samples], mebibytes),
)


def rows(first: Compared, second: Compared) -> list[list[str]]:
    """A row a metric: both images, and the first as a part of the second; medians, and their range."""
    return [
        [metric.label, _told(metric, first), _told(metric, second), f"{ratio(metric, first, second):.2f}"]
        for metric in METRICS
    ]


def ratio(metric: Metric, first: Compared, second: Compared) -> float:
    """Median of the first through median of the second; infinite, or 1 for 0/0."""
    above, below = median(metric.values(first)), median(metric.values(second))
    if not below:
        return float("inf") if above else 1.0
    return above / below


def tree(name: str, place: str, compared: Sequence[Compared]) -> dict[str, Any]:
    """All of it for machines: units are in the names."""
    return {
        "name": name,
        "place": place,
        "images": [
            {
                "image": image.contender.image,
                "runs_as": image.contender.runs_as,
                **asdict(image.weight),
                "runs": [asdict(sample) for sample in image.samples],
            }
            for image in compared
        ],
    }


def draw(first: Compared, second: Compared, folder: Path) -> list[Path]:
    """comparison.png and .svg: each metric of both images as a part of what the second one takes."""
    import matplotlib as mpl  # half a second, and numpy with it

    mpl.use("Agg")  # no window, no display
    from matplotlib import pyplot as plt

    # hash salt and date: the same figures give the same file, byte for byte
    style: Any = {"svg.hashsalt": "jobrelay", "font.size": 10}
    style |= {f"axes.spines.{side}": False for side in ("top", "right")}
    paths = [folder / f"comparison.{kind}" for kind in ("png", "svg")]
    with mpl.rc_context(style):
        figure, axes = plt.subplots(figsize=(9.6, 4.4), layout="constrained")
        highest = 1.0
        for number, (image, colour) in enumerate(zip((first, second), _COLOURS, strict=True)):
            bars = [_bar(metric, image, second) for metric in METRICS]
            places = [place + 0.4 * (number - 0.5) for place in range(len(METRICS))]
            heights = [middle for _, middle, _ in bars]
            reach = [[middle - low for low, middle, _ in bars], [high - middle for _, middle, high in bars]]
            axes.bar(places, heights, 0.38, label=image.name, color=colour, yerr=reach, ecolor="#57606a")
            for place, metric, (_, _, high) in zip(places, METRICS, bars, strict=True):
                told = metric.wording(median(metric.values(image)))
                axes.text(place, high + 0.02, told, ha="center", va="bottom", fontsize=7)
                highest = max(highest, high)
        axes.set_xticks(range(len(METRICS)), [fill(metric.label, 14) for metric in METRICS])
        axes.set_ylabel(f"{second.name} = 1\n(medians; lines: from the least to the most)")
        axes.set_ylim(0, 1.15 * highest)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=2)
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)
    return paths


def _bar(metric: Metric, image: Compared, whole: Compared) -> tuple[float, float, float]:
    """Smallest, median and largest, as parts of the other's median."""
    values, one = metric.values(image), median(metric.values(whole)) or 1.0
    return min(values) / one, median(values) / one, max(values) / one


def _told(metric: Metric, image: Compared) -> str:
    values = metric.values(image)
    middle = metric.wording(median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({metric.wording(min(values))} … {metric.wording(max(values))})"

"""The report of a comparison: a table, JSON, a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from jobrelay.figures import mebibytes
from jobrelay.images.comparing import Contender, Sample
from jobrelay.images.measuring import Weight
from jobrelay.report.bars import Bar, Bars, Pair
from jobrelay.report.drawing import write


@dataclass(frozen=True)
class Compared:
    """An image with all its measurements."""

    contender: Contender
    weight: Weight
    samples: Sequence[Sample]

    @property
    def name(self) -> str:
        return self.contender.image


@dataclass(frozen=True)
class Metric:
    """A row of the table. values: of one image; several if measured in every run."""

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
    """One row per metric: both images, and the ratio of first to second; medians with their ranges."""
    return [
        [metric.label, _cell(metric, first), _cell(metric, second), f"{ratio(metric, first, second):.2f}"]
        for metric in METRICS
    ]


def ratio(metric: Metric, first: Compared, second: Compared) -> float:
    """Median of the first divided by the median of the second; infinite for x/0, 1 for 0/0."""
    above, below = median(metric.values(first)), median(metric.values(second))
    if not below:
        return float("inf") if above else 1.0
    return above / below


def tree(name: str, place: str, compared: Sequence[Compared]) -> dict[str, Any]:
    """The comparison as data for JSON; the names contain the units."""
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
    """Write comparison.svg, and comparison.png if matplotlib is installed; return the files.

    Each metric is drawn relative to the second image.
    """
    pairs = [
        Pair(metric.label, (_bar(metric, first, second), _bar(metric, second, second))) for metric in METRICS
    ]
    picture = Bars(
        "Two images compared",
        (first.name, second.name),
        pairs,
        "medians, lines from least to greatest; second = 1",
    )
    return write(picture, folder, "comparison")


def _bar(metric: Metric, image: Compared, whole: Compared) -> Bar:
    """The bar of one image, with lengths relative to the median of `whole`."""
    values, one = metric.values(image), median(metric.values(whole)) or 1.0
    label = metric.wording(median(values))
    return Bar(min(values) / one, median(values) / one, max(values) / one, label)


def _cell(metric: Metric, image: Compared) -> str:
    values = metric.values(image)
    middle = metric.wording(median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({metric.wording(min(values))} … {metric.wording(max(values))})"

"""Series of numbers as lines in a box: positions of the points, ticks and labels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from jobrelay.report.drawing import Shape, letters_width, line, shortened, text
from jobrelay.terminal import printable

#: Size in units; the drawing scales to the available width. Letters are 12 units high, on a phone 11 pixels.
WIDTH: Final = 360
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 14, 40
#: More points cannot be distinguished in that width.
_MOST_POINTS: Final = 300
_MOST_DOTS: Final = 30
#: Height of the heading and of the legend above the box of a standalone picture.
_HEADING, _LEGEND = 22, 20
#: Distance of the first and last points of a trend from the edges of the box.
_INSET: Final = 16
#: Ratio of the greatest to the least value from which the axis of a trend is logarithmic: typical for powers
#: of two or ten.
_LOGARITHMIC_FROM: Final = 8
_SLANT: Final = 45
_SLANTED_WIDTH: Final = 125


@dataclass(frozen=True)
class Tick:
    place: float
    label: str


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    label: str  # its tooltip


@dataclass(frozen=True)
class Curve:
    """One line with its axes. `points` and `band` are in the format of <polyline>."""

    title: str
    x_label: str
    points: str
    dots: tuple[Dot, ...]  # empty if they would overlap
    x_ticks: tuple[Tick, ...]  # a label is empty if it would overlap another
    y_ticks: tuple[Tick, ...]
    summary: str  # in words, for screen readers
    mark: Tick | None = None  # a reference value, drawn across the box
    band: str = ""
    legend: tuple[str, str] | None = None  # names of the line and the band
    stands_alone: bool = False  # outside a page, so it needs its own title
    slanted: bool = False  # the labels of the x axis
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM
    width: float = WIDTH
    height: float = HEIGHT

    @property
    def shapes(self) -> list[Shape]:
        """The shapes in drawing order."""
        return [*self._head(), *self._axes(), *self._series()]

    def _head(self) -> Iterator[Shape]:
        if self.stands_alone:
            yield text(_RIGHT, _HEADING, shortened(self.title, self.width), style="heading")
        if self.legend:
            y = _HEADING + _LEGEND
            of_line, of_band = self.legend
            yield line("line", _RIGHT, y - 4, _RIGHT + 20, y - 4)
            yield Shape("circle", "dot", {"cx": _RIGHT + 10, "cy": y - 4, "r": 2.6})
            yield text(_RIGHT + 26, y, of_line)
            x = round(_RIGHT + 26 + letters_width(of_line) + 12, 1)
            yield Shape("rect", "band", {"x": x, "y": y - 10, "width": 20, "height": 12})
            yield text(x + 26, y, of_band)

    def _axes(self) -> Iterator[Shape]:
        for tick in self.y_ticks:
            yield line("grid", self.left, tick.place, self.right, tick.place)
            yield text(self.left - 7, round(tick.place + 4, 1), tick.label, "end")
        yield line("axis", self.left, self.bottom, self.right, self.bottom)
        for tick in self.x_ticks:
            if self.stands_alone:
                yield line("axis", tick.place, self.bottom, tick.place, self.bottom + 4)
            if tick.label and self.slanted:
                yield text(tick.place + 4, self.bottom + 14, tick.label, "end", slant=-_SLANT)
            elif tick.label:
                yield text(tick.place, self.bottom + 16 + 2 * self.stands_alone, tick.label, "middle")
        below = self.height - (10 if self.stands_alone else 5)
        yield text(round((self.left + self.right) / 2, 1), below, self.x_label, "middle")
        if self.mark:
            yield line("mark", self.left, self.mark.place, self.right, self.mark.place)

    def _series(self) -> Iterator[Shape]:
        if self.band:
            yield Shape("polygon", "band", {"points": self.band})
        yield Shape("polyline", "line", {"points": self.points})
        for dot in self.dots:
            yield Shape("circle", "dot", {"cx": dot.x, "cy": dot.y, "r": 2.6}, dot.label)
        if self.mark:
            yield text(self.left + 4, round(self.mark.place - 6, 1), self.mark.label, style="mark")


def curve(
    title: str,
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    x_label: str,
    mark: tuple[float, str] | None = None,
) -> Curve:
    """The line through (xs[i], ys[i]); xs ascending, at least one. mark: a y value and its label."""
    shown = thinned(len(xs))
    heights = [*ys, mark[0]] if mark else list(ys)
    y_places = ticks(min(heights), max(heights))
    low, high = min(y_places[0], *heights), max(y_places[-1], *heights)
    first, last = xs[0], xs[-1]
    x_of = scale(first, last, _LEFT, WIDTH - _RIGHT)
    y_of = scale(low, high, HEIGHT - _BOTTOM, _TOP)
    dots = [Dot(x_of(xs[n]), y_of(ys[n]), f"{x_label} {xs[n]:g}: {ys[n]:.4g}") for n in shown]
    best = f"lowest {min(ys):.4g}, highest {max(ys):.4g}"
    return Curve(
        title=title,
        x_label=x_label,
        points=points_text([(dot.x, dot.y) for dot in dots]),
        dots=tuple(dots) if len(dots) <= _MOST_DOTS else (),
        x_ticks=tuple(Tick(x_of(x), f"{x:g}") for x in _whole_ticks(first, last)),
        y_ticks=tuple(Tick(y_of(y), tick_label(y, y_places)) for y in y_places),
        summary=f"{title}, {x_label} {first:g} to {last:g}: from {ys[0]:.4g} to {ys[-1]:.4g}; {best}",
        mark=Tick(y_of(mark[0]), mark[1]) if mark else None,
    )


def trend(
    title: str,
    values: Sequence[object],
    samples: Sequence[Sequence[float]],
    *,
    x_label: str,
    band: str,
    from_zero: bool = False,
) -> Curve:
    """The line through the medians of samples[i], measured at values[i], as a standalone picture.

    The band, named `band` in the legend, spans the range of each sample. Ascending numbers above 0 are on a
    scale; other values are names at equal distances. from_zero: the y axis starts at 0, so that heights are
    proportional. Needs at least one value with one sample.
    """
    kind, places = _places(values)
    labels = [_name(value) for value in values]
    medians = [statistics.median(each) for each in samples]
    everything = [sample for each in samples for sample in each]
    y_places = ticks(0 if from_zero else min(everything), max(everything))
    has_band = any(len(each) > 1 for each in samples)

    y_labels = [tick_label(y, y_places) for y in y_places]
    left = max(_LEFT, 10 + max(map(letters_width, y_labels)))
    right = WIDTH - _RIGHT
    # every name needs its label, while labels between numbers may be dropped
    slanted = kind == "names" and _collide(labels, _names_apart(left, len(labels)))
    if slanted:
        labels = [shortened(label, _SLANTED_WIDTH) for label in labels]
        reach = letters_width(labels[0]) * math.cos(math.radians(_SLANT))
        left = max(left, min(reach, WIDTH / 3))
    left = round(left, 1)
    inset = _names_apart(left, len(labels)) / 2 if kind == "names" else _INSET
    top = _HEADING + (_LEGEND if has_band else 0) + 16
    bottom = top + HEIGHT - _TOP - _BOTTOM
    below = max(map(letters_width, labels)) * math.sin(math.radians(_SLANT)) - 2 if slanted else 6

    x_of = scale(places[0], places[-1], left + inset, right - inset)
    y_of = scale(y_places[0], y_places[-1], bottom, top)
    xs = [x_of(place) for place in places]
    dots = [
        Dot(x, y_of(median), f"{x_label} {_name(value)}: {_with_range(median, each)}")
        for x, median, value, each in zip(xs, medians, values, samples, strict=True)
    ]
    edges = [(x, y_of(max(each))) for x, each in zip(xs, samples, strict=True)]
    edges += reversed([(x, y_of(min(each))) for x, each in zip(xs, samples, strict=True)])
    return Curve(
        title=title,
        x_label=x_label,
        points=points_text([(dot.x, dot.y) for dot in dots]),
        dots=tuple(dots),
        x_ticks=tuple(map(Tick, xs, _spaced(xs, labels, slanted=slanted))),
        y_ticks=tuple(map(Tick, map(y_of, y_places), y_labels)),
        summary=f"{title} against {x_label}: "
        + "; ".join(dot.label.removeprefix(f"{x_label} ") for dot in dots),
        band=points_text(edges) if has_band else "",
        legend=("median", band) if has_band else None,
        stands_alone=True,
        slanted=slanted,
        left=left,
        top=top,
        bottom=bottom,
        height=math.ceil(bottom + _BOTTOM + below),
    )


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, that span `low` to `high`."""
    if high - low < 1e-9:  # all values are equal
        room = max(abs(low) / 10, 1e-6)
        low, high = low - room, high + room
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Linear map from low … high to start … end, which may descend; the middle if low equals high."""

    def place(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return round(start + share * (end - start), 1)

    return place


def _places(values: Sequence[object]) -> tuple[str, list[float]]:
    """The kind of axis that the values need, and the position of each on it."""
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and v > 0]
    if len(numbers) < len(values):
        return "names", list(map(float, range(len(values))))
    if max(numbers) >= _LOGARITHMIC_FROM * min(numbers):
        return "logarithmic", list(map(math.log, numbers))
    return "linear", numbers


def _names_apart(left: float, count: int) -> float:
    return (WIDTH - _RIGHT - left) / count


def _collide(labels: Sequence[str], apart: float) -> bool:
    return any(letters_width(label) + 6 > apart for label in labels)


def _spaced(places: Sequence[float], labels: Sequence[str], *, slanted: bool) -> list[str]:
    """The labels, emptied where they would overlap another; the first and the last stay."""

    def reach(number: int) -> float:
        """Half the length of a label along the axis."""
        return 12 if slanted else letters_width(labels[number]) / 2 + 3

    def fits(left: int, right: int) -> bool:
        return places[right] - places[left] >= reach(left) + reach(right)

    last = len(labels) - 1
    kept = [0]
    for number in range(1, last):
        if fits(kept[-1], number) and fits(number, last):
            kept.append(number)
    kept.append(last)
    return [label if number in kept else "" for number, label in enumerate(labels)]


def points_text(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


def _name(value: object) -> str:
    """A value as people type it: 0.005, 1e-5."""
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else printable(str(value))


def _with_range(median: float, samples: Sequence[float]) -> str:
    if len(samples) == 1:
        return f"{median:.4g}"
    return f"{median:.4g} ({min(samples):.4g} to {max(samples):.4g})"


def _whole_ticks(first: float, last: float) -> list[float]:
    """Ticks for epochs: integers from the first to the last."""
    if last - first <= 6:
        return [first + number for number in range(int(last - first) + 1)]
    return [first, *(t for t in ticks(first, last) if t == int(t) and first < t <= last)]


def tick_label(value: float, places: Sequence[float]) -> str:
    """A tick's label, with enough digits to distinguish it from its neighbours."""
    step = abs(places[1] - places[0])
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}" if digits <= 4 else f"{value:.1e}"


def thinned(count: int) -> list[int]:
    """Indices of the points to draw: all, or at most _MOST_POINTS; always the last."""
    step = math.ceil(count / _MOST_POINTS)
    return sorted({*range(0, count, step), count - 1})

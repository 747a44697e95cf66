"""Series of numbers as lines in a box: where the points, the ticks and their labels are. Draws nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Units of the drawing, which is as wide as there is room: letters are 12 of them, on a phone 11 pixels.
WIDTH: Final = 360
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 14, 40
#: More than anybody can tell apart in that width.
_MOST_POINTS: Final = 300


@dataclass(frozen=True)
class Tick:
    place: float
    label: str


@dataclass(frozen=True)
class Curve:
    """One line, with its axes. `points` as a <polyline> has them."""

    title: str
    x_label: str
    points: str
    dots: tuple[tuple[float, float], ...]  # empty where they would run into each other
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    summary: str  # in words, for who does not see it
    mark: Tick | None = None  # a value to compare with, drawn across
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def curve(
    title: str,
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    x_label: str,
    mark: tuple[float, str] | None = None,
) -> Curve:
    """The line through (xs[i], ys[i]), xs ascending, at least one. mark: a height, and what it is."""
    shown = _thinned(len(xs))
    heights = [*ys, mark[0]] if mark else list(ys)
    y_places = ticks(min(heights), max(heights))
    low, high = min(y_places[0], *heights), max(y_places[-1], *heights)
    first, last = xs[0], xs[-1]

    def x_of(x: float) -> float:
        share = (x - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def y_of(y: float) -> float:
        share = (y - low) / (high - low) if high > low else 0.5
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    places = [(x_of(xs[n]), y_of(ys[n])) for n in shown]
    best = f"lowest {min(ys):.4g}, highest {max(ys):.4g}"
    return Curve(
        title=title,
        x_label=x_label,
        points=" ".join(f"{x},{y}" for x, y in places),
        dots=tuple(places) if len(places) <= 30 else (),
        x_ticks=tuple(Tick(x_of(x), f"{x:g}") for x in _whole_ticks(first, last)),
        y_ticks=tuple(Tick(y_of(y), _label(y, y_places)) for y in y_places),
        summary=f"{title}, {x_label} {first:g} to {last:g}: from {ys[0]:.4g} to {ys[-1]:.4g}; {best}",
        mark=Tick(y_of(mark[0]), mark[1]) if mark else None,
    )


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that embrace `low` and `high`."""
    if high - low < 1e-9:  # all the same
        room = max(abs(low) / 10, 1e-6)
        low, high = low - room, high + room
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _whole_ticks(first: float, last: float) -> list[float]:
    """Of epochs: whole numbers from the first to the last."""
    if last - first <= 6:
        return [first + number for number in range(int(last - first) + 1)]
    return [first, *(t for t in ticks(first, last) if t == int(t) and first < t <= last)]


def _label(value: float, places: Sequence[float]) -> str:
    """With as many digits as tell it from its neighbours."""
    step = abs(places[1] - places[0])
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}" if digits <= 4 else f"{value:.1e}"


def _thinned(count: int) -> list[int]:
    """Which points are drawn: all, or so many, the last one always."""
    step = math.ceil(count / _MOST_POINTS)
    return sorted({*range(0, count, step), count - 1})

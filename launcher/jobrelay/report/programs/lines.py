"""Several lines in one box, with a legend: the geometry and the labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from jobrelay.report.curves import WIDTH, Tick, points_text, scale, thinned, tick_label, ticks
from jobrelay.report.drawing import Shape, letters_width, line, shortened, text

#: As many as style.css has colours.
MOST_LINES: Final = 6
_RIGHT, _TOP, _BOTTOM = 14, 14, 40
_BOX: Final = 166
_ROW: Final = 18
_SAMPLE: Final = 20
_MOST_DOTS: Final = 30


@dataclass(frozen=True)
class Line:
    """points: at least two, ascending in x."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Lines:
    """A chart (drawing.Picture). One line alone needs no legend if the title is its name."""

    title: str
    x_label: str
    lines: tuple[Line, ...]
    width: float = WIDTH

    @property
    def height(self) -> float:
        return self._bottom + _BOTTOM

    @property
    def summary(self) -> str:
        """The picture in words, for screen readers."""
        first, last = self._span
        summary = (
            f"{each.name} from {each.points[0][1]:.4g} to {each.points[-1][1]:.4g}, lowest {min(ys):.4g}, "
            f"highest {max(ys):.4g}"
            for each in self.lines
            for ys in [[y for _, y in each.points]]
        )
        return f"{self.title}, {self.x_label} {first:g} to {last:g}: {'; '.join(summary)}"

    @cached_property
    def shapes(self) -> list[Shape]:
        """The shapes in drawing order."""
        return [*self._head(), *self._axes(), *self._series()]

    @property
    def _span(self) -> tuple[float, float]:
        xs = [x for each in self.lines for x in (each.points[0][0], each.points[-1][0])]
        return min(xs), max(xs)

    @cached_property
    def _legend(self) -> list[tuple[float, int, str]]:
        """Place, row and text of each line's name; none for a line that the title names."""
        if len(self.lines) == 1 and self.lines[0].name == self.title:
            return []
        placed: list[tuple[float, int, str]] = []
        x, row = float(_RIGHT), 0
        for each in self.lines:
            name = shortened(each.name, self.width - 2 * _RIGHT - _SAMPLE - 6)
            width = _SAMPLE + 6 + letters_width(name) * 0.9
            if x > _RIGHT and x + width > self.width - _RIGHT:
                x, row = float(_RIGHT), row + 1
            placed.append((round(x, 1), row, name))
            x += width + 8
        return placed

    @property
    def _top(self) -> float:
        return _TOP + (_ROW * (self._legend[-1][1] + 1) if self._legend else 0)

    @property
    def _bottom(self) -> float:
        return self._top + _BOX

    @cached_property
    def _y_ticks(self) -> list[float]:
        ys = [y for each in self.lines for _, y in each.points]
        return ticks(min(ys), max(ys))

    @cached_property
    def _left(self) -> float:
        labels = (tick_label(y, self._y_ticks) for y in self._y_ticks)
        return round(max(48.0, 10 + max(map(letters_width, labels))), 1)

    def _head(self) -> Iterator[Shape]:
        for number, (x, row, name) in enumerate(self._legend):
            y = _TOP + _ROW * row
            yield line(f"line c{number}", x, y - 4, x + _SAMPLE, y - 4)
            yield text(round(x + _SAMPLE + 6, 1), y, name)

    def _axes(self) -> Iterator[Shape]:
        right = self.width - _RIGHT
        y_of = scale(self._y_ticks[0], self._y_ticks[-1], self._bottom, self._top)
        for y in self._y_ticks:
            yield line("grid", self._left, y_of(y), right, y_of(y))
            yield text(self._left - 7, round(y_of(y) + 4, 1), tick_label(y, self._y_ticks), "end")
        yield line("axis", self._left, self._bottom, right, self._bottom)
        for tick in self._x_ticks():
            yield text(tick.place, self._bottom + 16, tick.label, "middle")
        middle = round((self._left + right) / 2, 1)
        yield text(middle, self.height - 5, shortened(self.x_label, right - self._left), "middle")

    def _x_ticks(self) -> Iterator[Tick]:
        first, last = self._span
        x_of = scale(first, last, self._left, self.width - _RIGHT)
        places = [x for x in ticks(first, last) if first <= x <= last] if last > first else [first]
        for x in places:
            label = tick_label(x, places) if len(places) > 1 else f"{x:g}"
            if x_of(x) + letters_width(label) * 0.4 <= self.width:
                yield Tick(x_of(x), label)

    def _series(self) -> Iterator[Shape]:
        x_of = scale(*self._span, self._left, self.width - _RIGHT)
        y_of = scale(self._y_ticks[0], self._y_ticks[-1], self._bottom, self._top)
        for number, each in enumerate(self.lines):
            shown = [each.points[index] for index in thinned(len(each.points))]
            places = [(x_of(x), y_of(y)) for x, y in shown]
            yield Shape("polyline", f"line c{number}", {"points": points_text(places)}, each.name)
            if len(shown) <= _MOST_DOTS:
                for (x, y), (place, height) in zip(shown, places, strict=True):
                    summary = f"{each.name}, {self.x_label} {x:g}: {y:.4g}"
                    yield Shape("circle", f"dot c{number}", {"cx": place, "cy": height, "r": 2.6}, summary)

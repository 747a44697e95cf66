"""Several measurements of two things as pairs of bars: the geometry and the labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from jobrelay.report.curves import Tick, ticks
from jobrelay.report.drawing import Shape, letters_width, line, shortened, text

_WIDTH: Final = 420
_MARGIN: Final = 14
_TOP: Final = 72
_ROW, _BAR, _GAP = 40, 14, 1


@dataclass(frozen=True)
class Bar:
    """A bar. low, middle, high: relative to the reference. label: the measured value with its unit."""

    low: float
    middle: float
    high: float
    label: str


@dataclass(frozen=True)
class Pair:
    label: str
    bars: tuple[Bar, Bar]


@dataclass(frozen=True)
class Bars:
    """Pairs of bars below each other. names: the two things; the second is the reference, 1."""

    title: str
    names: tuple[str, str]
    pairs: Sequence[Pair]
    x_label: str
    width: float = _WIDTH

    @property
    def height(self) -> float:
        return self._bottom + 46

    @property
    def summary(self) -> str:
        """The picture in words, for screen readers."""
        rows = (f"{pair.label}: {pair.bars[0].label} and {pair.bars[1].label}" for pair in self.pairs)
        return f"{self.names[0]} and {self.names[1]}. {'; '.join(rows)}"

    @property
    def shapes(self) -> list[Shape]:
        """The shapes in drawing order."""
        return [*self._head(), *self._axes(), *self._series()]

    @property
    def _bottom(self) -> float:
        return _TOP + _ROW * len(self.pairs)

    @property
    def _left(self) -> float:
        return round(_MARGIN + 8 + max(letters_width(pair.label) for pair in self.pairs) * 0.9, 1)

    @property
    def _right(self) -> float:
        """Right end of the axis; leaves room for the labels of the longest bars."""
        longest = max(letters_width(bar.label) for pair in self.pairs for bar in pair.bars)
        return round(self.width - _MARGIN - 6 - longest * 0.9, 1)

    def _x_of(self, share: float) -> float:
        return round(self._left + share / self._most * (self._right - self._left), 1)

    @property
    def _most(self) -> float:
        return max(1.0, *(bar.high for pair in self.pairs for bar in pair.bars))

    @property
    def x_ticks(self) -> list[Tick]:
        return [
            Tick(self._x_of(share), f"{share:g}") for share in ticks(0, self._most, 3) if share <= self._most
        ]

    def _head(self) -> Iterator[Shape]:
        yield text(_MARGIN, 22, self.title, style="heading")
        for number, (name, style) in enumerate(zip(self.names, ("first", "second"), strict=True)):
            y = 42 + 17 * number
            yield Shape("rect", style, {"x": _MARGIN, "y": y - 10, "width": 14, "height": 12}, name)
            yield text(_MARGIN + 20, y, shortened(name, self.width - 2 * _MARGIN - 20))

    def _axes(self) -> Iterator[Shape]:
        for tick in self.x_ticks:
            yield line("grid", tick.place, _TOP, tick.place, self._bottom)
            yield text(tick.place, self._bottom + 16, tick.label, "middle")
        yield text(self.width / 2, self.height - 10, self.x_label, "middle")

    def _series(self) -> Iterator[Shape]:
        for number, pair in enumerate(self.pairs):
            top = _TOP + _ROW * number + (_ROW - 2 * _BAR - _GAP) / 2
            yield text(self._left - 8, top + _BAR + 5, pair.label, "end")
            for bar, style in zip(pair.bars, ("first", "second"), strict=True):
                middle = top + _BAR / 2
                width = round(self._x_of(bar.middle) - self._left, 1)
                at = {"x": self._left, "y": top, "width": width, "height": _BAR}
                yield Shape("rect", style, at, f"{pair.label}: {bar.label}")
                if bar.high > bar.low:
                    yield line("range", self._x_of(bar.low), middle, self._x_of(bar.high), middle)
                yield text(self._x_of(bar.high) + 5, middle + 4, bar.label)
                top += _BAR + _GAP
        yield line("axis", self._left, _TOP, self._left, self._bottom)
        yield line("mark", self._x_of(1), _TOP, self._x_of(1), self._bottom)

"""Which trials a sweep consists of: axes in, trials out.

An axis is a key of the configuration with its values (`train.epochs=1,3,5`) or, for a random sweep, a range
(`train.learning_rate=0.0001..0.1`). Values from a range are uniform on a logarithmic scale, and integers if
both ends are integers.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobrelay.errors import BadInput
from jobrelay_train.config.yamlio import YamlError, load_scalar

#: Upper limit, so that a typo in a grid does not create a million Jobs.
MAX_TRIALS: Final = 1000


@dataclass(frozen=True)
class Axis:
    """A key with either its values, in the order given, or a range from `low` to `high`."""

    key: str
    values: tuple[Any, ...] = ()
    low: float | int | None = None
    high: float | int | None = None

    @property
    def first(self) -> str:
        """Its first value, in the format of --set."""
        return f"{self.key}={json.dumps(self.values[0] if self.values else self.low)}"


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: the keys it changes in the shared configuration, and its seed, if it has one."""

    settings: tuple[tuple[str, Any], ...]
    seed: int | None

    def __str__(self) -> str:
        return " ".join(f"{key}={_shown(value)}" for key, value in self.values.items())

    @property
    def values(self) -> dict[str, Any]:
        """Its settings, and its seed as the key `seed`."""
        return dict(self.settings) | ({} if self.seed is None else {"seed": self.seed})

    @property
    def overrides(self) -> list[str]:
        """Its settings, in the format of --set."""
        return [f"{key}={json.dumps(value)}" for key, value in self.values.items()]

    @property
    def digest(self) -> str:
        """Six characters that identify the trial, independent of its position in the sweep."""
        return _digest([list(map(list, self.settings)), self.seed])


def parse_axis(text: str) -> Axis:
    """Parse `train.epochs=1,3,5` or `train.learning_rate=0.001..0.1`. Raises BadInput."""
    key, equals, rest = text.partition("=")
    if not equals or not key.strip() or not rest.strip():
        raise BadInput(f"--grid {text}: a key and its values are expected", "--grid train.epochs=1,3,5")
    low, dots, high = rest.partition("..")
    if dots:
        try:
            ends = _number(low), _number(high)
        except ValueError:
            raise BadInput(f"--grid {text}: a range is two numbers, as in 0.001..0.1") from None
        if not 0 < ends[0] < ends[1] < math.inf:
            raise BadInput(f"--grid {text}: a range is from a number above 0 to a larger one")
        return Axis(key.strip(), low=ends[0], high=ends[1])
    try:
        values = tuple(load_scalar(f"[{rest}]", f"--grid {key}"))
    except YamlError as error:
        raise BadInput(str(error), "--grid train.epochs=1,3,5") from error
    if not all(isinstance(value, str | int | float) for value in values):
        raise BadInput(f"--grid {text}: a value is a number, a word, true or false")
    if len({json.dumps(value) for value in values}) < len(values):
        raise BadInput(f"--grid {text}: a value is given twice")
    return Axis(key.strip(), values)


def all_combinations(axes: Sequence[Axis]) -> list[tuple[tuple[str, Any], ...]]:
    """Every value of each axis with every value of the others; the last axis changes first."""
    _only_values(axes)
    count = math.prod(len(axis.values) for axis in axes)
    if count > MAX_TRIALS:
        raise BadInput(
            f"the grid has {count:,} trials, and at most {MAX_TRIALS:,} are possible", "--random N draws some"
        )
    keys = [axis.key for axis in axes]
    return [
        tuple(zip(keys, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))
    ]


def one_at_a_time(axes: Sequence[Axis], base: dict[str, Any]) -> list[tuple[tuple[str, Any], ...]]:
    """Each value of each axis with the others as in `base`; duplicates, such as the base itself, once."""
    _only_values(axes)
    found: dict[tuple[tuple[str, Any], ...], None] = {}
    for axis in axes:
        for value in axis.values:
            found[tuple({**base, axis.key: value}.items())] = None
    return list(found)


def at_random(axes: Sequence[Axis], count: int, seed: int) -> list[tuple[tuple[str, Any], ...]]:
    """`count` different random points, from `seed`; fewer if the axes do not have enough."""
    draw = random.Random(seed)
    found: dict[tuple[tuple[str, Any], ...], None] = {}
    for _ in range(100 * count):
        if len(found) == count:
            break
        found[tuple((axis.key, _drawn(axis, draw)) for axis in axes)] = None
    return list(found)


def with_seeds(points: Sequence[tuple[tuple[str, Any], ...]], first: int | None, count: int) -> list[Trial]:
    """Every point with `count` consecutive seeds from `first`; None: once, without a seed."""
    if len(points) * count > MAX_TRIALS:
        raise BadInput(
            f"{len(points) * count:,} trials, and at most {MAX_TRIALS:,} are possible", "fewer --seeds"
        )
    if first is None:
        return [Trial(point, None) for point in points]
    return [Trial(point, seed) for point in points for seed in range(first, first + count)]


def name_of(trials: Sequence[Trial], rest: Any) -> str:
    """A name that depends only on the sweep, so that the same command resumes it."""
    return f"sweep-{_digest([[trial.digest for trial in trials], rest])}"


def _drawn(axis: Axis, draw: random.Random) -> Any:
    if axis.low is None or axis.high is None:
        return draw.choice(axis.values)
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        # from half below the first integer to half above the last, so that both ends get their full share
        value = math.exp(draw.uniform(math.log(axis.low - 0.5), math.log(axis.high + 0.5)))
        return min(max(round(value), axis.low), axis.high)
    value = math.exp(draw.uniform(math.log(axis.low), math.log(axis.high)))
    return float(f"{value:.3g}")  # more digits have no effect


def _number(text: str) -> float | int:
    """Parse a number. Raises ValueError."""
    return int(text) if re.fullmatch(r"\s*\d{1,18}\s*", text) else float(text)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _only_values(axes: Sequence[Axis]) -> None:
    for axis in axes:
        if not axis.values:
            raise BadInput(f"--grid {axis.key}: a range has infinitely many values", "--random N, or a list")


def _digest(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:6]

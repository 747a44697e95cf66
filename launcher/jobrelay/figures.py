"""Formatting of figures for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Protocol

from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume.record import Cost
from jobrelay_train.config.quantity import quantity

_LINE: Final = 200
#: Of a stage that is not built in, how many metrics stand in a table.
_MOST_METRICS: Final = 2
#: In the last line of a history: how far it came, not how well.
COUNTERS: Final = ("step", "global_step", "iteration", "iter", "epoch")


class Measured(Protocol):
    """What a stage reported about itself: its Closing, or the part of it that was kept."""

    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def cost(self) -> Cost: ...


def in_one_line(text: str) -> str:
    """The first line of a text, cut to 200 characters."""
    line = next(iter(text.splitlines()), "")
    return line if len(line) <= _LINE else f"{line[: _LINE - 1]}…"


def clock(when: datetime) -> str:
    """14:27:33 in this machine's time zone, for a moment of today."""
    return f"{when.astimezone():%H:%M:%S}"


def duration(seconds: float) -> str:
    """12.3 s, 1m42s, 2h03m"""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def mebibytes(size: float) -> str:
    """1610612736 → 1.5 GiB; 851443712 → 812 MiB; 65536 → 64 KiB"""
    if size < 2**20:
        return f"{size / 2**10:.0f} KiB"
    return f"{size / 2**30:.1f} GiB" if size >= 1023.5 * 2**20 else f"{size / 2**20:.0f} MiB"


def memory_quantity(text: str) -> str:
    """2Gi → 2.0 GiB, the format of the measured use next to it. Any other text is returned unchanged."""
    try:
        return mebibytes(float(quantity(text)))
    except ValueError:
        return text


def accuracy(measured: Measured | None) -> str:
    """A stage's main result, in a few words."""
    metrics = measured.metrics if measured else {}
    if "test_acc" in metrics:
        return f"test acc {metrics['test_acc']:.4f}"
    if "accuracy" in metrics:
        return f"acc {metrics['accuracy']:.4f}"
    if "correct" in metrics:
        return f"{metrics['correct']:,.0f} of {metrics.get('samples', 0):,.0f} right"
    if "skipped" in metrics:
        skipped = f", {metrics['skipped']:.0f} skipped" if metrics["skipped"] else ""
        nothing = f", nothing found in {metrics['nothing_found']:.0f}" if "nothing_found" in metrics else ""
        return f"{counted(round(metrics.get('samples', 0)), 'image')}{nothing}{skipped}"
    named = [(name, value) for name, value in metrics.items() if name not in COUNTERS]
    return ", ".join(f"{name} {value:.4g}" for name, value in named[:_MOST_METRICS])


def memory(measured: Measured | None, limit: str) -> str:
    """Peak memory of a stage: 812 MiB of 2.0 GiB"""
    if not measured or not measured.cost.peak_memory_bytes:  # the stage had nothing to do
        return ""
    peak = mebibytes(measured.cost.peak_memory_bytes)
    return f"{peak} of {memory_quantity(limit)}" if limit else peak

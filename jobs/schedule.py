"""The learning rate, as a function of nothing but how far training has come."""

from __future__ import annotations

from typing import Final

_WARM_UP: Final = 0.25


def one_cycle(step: int, total_steps: int, peak: float) -> float:
    """Learning rate of one step (0 … total_steps - 1): up to `peak` in the first quarter, then down to 0.

    Straight lines in place of the cosines of Smith and Topin (Super-Convergence, 2018): a resumed
    run needs no state to find its place, and the result is the same.
    """
    progress = (step + 1) / (total_steps + 1)  # neither the first nor the last step is wasted on 0
    if progress < _WARM_UP:
        return peak * progress / _WARM_UP
    return peak * (1 - progress) / (1 - _WARM_UP)

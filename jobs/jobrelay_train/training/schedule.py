"""The learning rate, as a function of the step alone, so that a resumed training needs no state for it."""

from __future__ import annotations

from typing import Final

from jobrelay_train.config.schema import TrainConfig

_WARM_UP: Final = 0.25


def learning_rate(train: TrainConfig, step: int, steps_an_epoch: int) -> float:
    """Return the learning rate of one step (0 …) of the whole training, by the configured schedule."""
    if train.schedule == "step":
        return train.learning_rate * train.gamma ** (step // steps_an_epoch)
    return one_cycle(step, train.epochs * steps_an_epoch, train.learning_rate)


def one_cycle(step: int, total_steps: int, peak: float) -> float:
    """Return the rate of one step (0 … total_steps - 1): up to `peak` in the first quarter, then down to 0.

    The slopes are linear, in place of the cosines of Smith and Topin (Super-Convergence, 2018).
    """
    progress = (step + 1) / (total_steps + 1)  # neither the first nor the last step is wasted on 0
    if progress < _WARM_UP:
        return peak * progress / _WARM_UP
    return peak * (1 - progress) / (1 - _WARM_UP)

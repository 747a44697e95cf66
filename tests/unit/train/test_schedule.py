"""The learning rate over a training."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay_train.config.schema import TrainConfig
from jobrelay_train.training.schedule import learning_rate, one_cycle


@given(total=st.integers(1, 5000), peak=st.floats(1e-6, 10))
def test_it_rises_to_the_peak_and_falls_to_nothing(total: int, peak: float) -> None:
    rates = [one_cycle(step, total, peak) for step in range(total)]
    top = rates.index(max(rates))

    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_a_quarter_of_it_is_warming_up() -> None:
    rates = [one_cycle(step, 999, 0.4) for step in range(999)]

    assert rates[249] == max(rates) == pytest.approx(0.4)
    assert rates[0] == pytest.approx(0.4 / 250)
    assert rates[-1] == pytest.approx(0.4 / 750)


def test_one_step_is_enough() -> None:
    assert one_cycle(0, 1, 0.3) == pytest.approx(0.2)


def test_by_steps_it_stays_for_an_epoch() -> None:
    train = TrainConfig(learning_rate=0.1, schedule="step", gamma=0.5)

    assert [learning_rate(train, step, 3) for step in range(7)] == [0.1] * 3 + [0.05] * 3 + [0.025]


def test_one_cycle_is_over_all_epochs() -> None:
    train = TrainConfig(learning_rate=0.1, epochs=2)

    assert [learning_rate(train, step, 3) for step in range(6)] == [
        one_cycle(step, 6, 0.1) for step in range(6)
    ]

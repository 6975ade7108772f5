"""Tables of learning rates and averaging weights."""

from __future__ import annotations

import numpy as np
import pytest

from optuna_deepweeds.training.schedule import averaging_weights, learning_rates


def test_constant_is_constant() -> None:
    assert np.array_equal(learning_rates("constant", 0.5, 7, 0.3), np.full(7, 0.5, np.float32))


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.02, 0.25, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_rises_to_the_peak_and_falls_to_zero(schedule: str, warmup: float, steps: int) -> None:
    rates = learning_rates(schedule, 0.1, steps, warmup)
    assert rates.shape == (steps,)
    assert (rates > 0).all() and (rates <= 0.1 + 1e-7).all()
    top = int(rates.argmax())
    assert (np.diff(rates[: top + 1]) >= 0).all()
    assert (np.diff(rates[top:]) <= 0).all()
    if steps == 1000:
        assert rates.max() == pytest.approx(0.1, rel=0.02)
        assert abs(top / steps - warmup) < 0.01
        assert rates[-1] < 0.001


def test_average_begins_with_a_short_memory() -> None:
    weights = averaging_weights(0.99, 2000)
    assert weights[0] > 0.5
    assert (np.diff(weights) <= 0).all()
    assert weights[-1] == pytest.approx(0.01)

"""Tables of learning rates."""

from __future__ import annotations

import numpy as np
import pytest

from optuna_deepweeds.training.schedule import learning_rates


def test_constant_is_constant() -> None:
    assert np.array_equal(learning_rates("constant", 0.5, 7, 0.3), np.full(7, 0.5, np.float32))


@pytest.mark.parametrize("warmup", [0.0, 0.02, 0.25, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_rises_to_the_peak_and_falls_to_zero(warmup: float, steps: int) -> None:
    rates = learning_rates("one_cycle", 0.1, steps, warmup)
    assert rates.shape == (steps,)
    assert (rates > 0).all() and (rates <= 0.1 + 1e-7).all()
    top = int(rates.argmax())
    assert (np.diff(rates[: top + 1]) >= 0).all()
    assert (np.diff(rates[top:]) <= 0).all()
    if steps == 1000:
        assert rates.max() == pytest.approx(0.1, rel=0.02)
        assert abs(top / steps - warmup) < 0.01
        assert rates[-1] < 0.001

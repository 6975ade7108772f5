"""The forecast against closed forms, and what prior curves do to it."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from scipy import stats

from optuna_deepweeds.pruners.forecast import Forecast, forecast_final
from optuna_deepweeds.pruners.history import foresee

GAINS = np.array([0.1, 0.2, 0.15, 0.3])


def foreseen(value: float, gains: np.ndarray) -> Forecast:
    forecast = forecast_final(value, gains)
    assert forecast is not None
    return forecast


def test_interval_is_the_student_t_prediction_interval() -> None:
    forecast = foreseen(0.5, GAINS)
    n = len(GAINS)
    spread = stats.t.ppf(0.96, n - 1) * GAINS.std(ddof=1) * np.sqrt(1 + 1 / n)
    assert forecast.expected == pytest.approx(0.5 + GAINS.mean())
    assert forecast.high == pytest.approx(0.5 + GAINS.mean() + spread)
    assert forecast.low == pytest.approx(0.5 + GAINS.mean() - spread)


def test_upper_end_is_exceeded_as_rarely_as_promised() -> None:
    draws = np.random.default_rng(0).normal(0.1, 0.05, size=(4000, 6))
    exceeded = [draw[5] > foreseen(0.0, draw[:5]).high for draw in draws]
    assert np.mean(exceeded) == pytest.approx(0.04, abs=0.01)


@pytest.mark.parametrize("gains", [[], [0.1], [0.1, 0.2], [0.1, 0.2, np.nan], [np.inf] * 5])
def test_fewer_than_three_finite_gains_foresee_nothing(gains: list[float]) -> None:
    assert forecast_final(0.5, np.array(gains)) is None


@pytest.mark.parametrize("direction", [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
def test_every_unfinished_trial_is_foreseen_by_all_that_finished(
    direction: StudyDirection,
) -> None:
    sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
    curves = [[0.1 * i, 0.1 * i + 0.2 + 0.01 * i] for i in range(4)]
    trials = [
        create_trial(value=sign * end, intermediate_values={1: sign * start, 2: sign * end})
        for start, end in curves
    ]
    assert foresee(trials[:2], direction) == {}
    trials += [
        create_trial(state=state, intermediate_values={1: sign * 0.5})
        for state in (TrialState.PRUNED, TrialState.FAIL)
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    found = foresee(trials, direction)
    assert list(found) == [4]
    expected, low, high = found[4]
    assert expected == pytest.approx(sign * (0.5 + 0.215))
    assert low < expected < high

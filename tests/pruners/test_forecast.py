"""The forecast against closed forms, and what prior curves do to it."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from scipy import stats

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners.forecast import (
    Forecast,
    GainPrior,
    as_curves,
    forecast_final,
    gain_prior,
    gains_of_leaders,
)
from optuna_deepweeds.pruners.history import foresee

GAINS = np.array([0.1, 0.2, 0.15, 0.3])


def foreseen(value: float, gains: np.ndarray, prior: GainPrior | None = None) -> Forecast:
    forecast = forecast_final(value, gains, prior)
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


def test_prior_of_k_gains_equals_k_real_gains_of_that_mean_and_spread() -> None:
    earlier = np.array([0.05, 0.1, 0.3, 0.2])
    prior = GainPrior(earlier.mean(), earlier.std(ddof=1), worth=len(earlier))
    with_prior = foreseen(0.5, GAINS, prior)
    pooled = foreseen(0.5, np.concatenate([earlier, GAINS]))
    assert with_prior.expected == pytest.approx(pooled.expected)
    assert with_prior.high == pytest.approx(pooled.high)


def test_prior_speaks_alone_and_fades() -> None:
    prior = gain_prior(np.full(100, 0.5) + np.linspace(-0.01, 0.01, 100))
    assert foreseen(0.0, np.empty(0), prior).expected == pytest.approx(0.5)
    own = np.resize([0.09, 0.11], 60)
    assert foreseen(0.0, own, prior).expected == pytest.approx(0.1, abs=0.03)


def test_prior_that_contradicts_the_gains_widens_the_interval() -> None:
    agreeing, contradicting = (
        foreseen(0.0, GAINS, GainPrior(mean, 0.05, 4)) for mean in (GAINS.mean(), -1.0)
    )
    assert contradicting.high - contradicting.low > agreeing.high - agreeing.low


def test_short_and_broken_prior_curves_are_left_out() -> None:
    curves = as_curves([[1, 2, 3], [1, 2], [1, np.nan, 3], [4, 5, 6, 7]], 3)
    assert curves.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("curve", [["a", "b"], [[1, 2], [3, 4]], 3.0])
def test_prior_curve_that_is_no_curve_is_refused(curve: object) -> None:
    with pytest.raises(InvalidInputError, match="prior_curves.*but 1 is"):
        as_curves([[1, 2, 3], curve], 3)  # type: ignore[list-item]


def test_gains_are_those_of_the_leading_third() -> None:
    curves = np.array([[i, 2.0 * i] for i in range(9)])
    assert sorted(gains_of_leaders(curves, 1)) == [6, 7, 8]


def test_without_prior_curves_nothing_is_expected() -> None:
    assert gain_prior(gains_of_leaders(as_curves((), 3), 1)) is None


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

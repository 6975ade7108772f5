"""Forecast of a learning curve's final value from what other curves gained after its step.

Plain numpy: no study, no trial. All values are in the direction "larger is better".

    y(t)      value of a curve at step t
    g_i       gain of finished curve i after step t: its final value minus y_i(t)
    n         number of gains
    m, s, k   mean and standard deviation of the gains that prior curves lead to expect, and how
              many observations that expectation is worth
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

QUANTILE = 0.97
"""The upper end of a forecast is exceeded once in 33 times."""

_MIN_GAINS = 3
_PRIOR_WORTH = 4.0


@dataclass(frozen=True)
class Forecast:
    """Distribution of a final value: its mean and the ends of its central interval."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class GainPrior:
    """What prior curves lead to expect of the gains after a step (m, s, k above)."""

    mean: float
    sd: float
    worth: float


def gain_prior(gains: NDArray[np.float64], worth: float = _PRIOR_WORTH) -> GainPrior | None:
    """Summarise the gains of prior curves; None with fewer than three finite ones.

    Args:
        gains: (n,) gains of prior curves after one step.
        worth: how many gains of the study itself the prior ones are worth, however many they
            are; so they fade as trials finish.
    """
    gains = gains[np.isfinite(gains)]
    if len(gains) < _MIN_GAINS:
        return None
    return GainPrior(float(gains.mean()), float(gains.std(ddof=1)), min(worth, len(gains)))


def forecast_final(
    value: float, gains: NDArray[np.float64], prior: GainPrior | None = None
) -> Forecast | None:
    """Return the predictive distribution of the final value of a curve that stands at `value`.

    The gains are taken as draws of one normal distribution with unknown mean and variance, so
    that the next one has a Student-t distribution. Without a prior it has n - 1 degrees of
    freedom, mean m_n = mean(g) and scale sd(g) * sqrt(1 + 1/n): few gains give a wide interval,
    which is what makes the upper end safe as a bound. A prior enters as k earlier gains with mean
    m and standard deviation s:

        m_n = (k m + n mean(g)) / (k + n)
        S_n = (k - 1) s^2 + sum (g_i - mean(g))^2 + k n / (k + n) * (mean(g) - m)^2

    with k + n - 1 degrees of freedom and scale sqrt(S_n / (k + n - 1) * (1 + 1 / (k + n))). A
    prior that contradicts the gains widens the interval.

    Args:
        value: the last value of the curve, finite.
        gains: (n,) gains of finished curves after the same step; non-finite ones are ignored.
        prior: what prior curves add, if there are any.

    Returns:
        None when gains and prior together are worth fewer than three gains.

    Source: the conjugate normal-inverse-gamma model, Murphy, Conjugate Bayesian analysis of the
        Gaussian distribution (2007), section 3, with the degrees of freedom of k real gains.
    """
    gains = gains[np.isfinite(gains)]
    n = len(gains)
    k = prior.worth if prior is not None else 0.0
    if n + k < _MIN_GAINS:
        return None
    mean = float(gains.mean()) if n else 0.0
    squares = float(np.square(gains - mean).sum())
    if prior is not None:
        squares += max(0.0, k - 1) * prior.sd**2
        squares += k * n / (k + n) * (mean - prior.mean) ** 2
        mean = (k * prior.mean + n * mean) / (k + n)
    scale = np.sqrt(squares / (n + k - 1) * (1 + 1 / (n + k)))
    spread = _student_quantile(n + k - 1) * float(scale)
    return Forecast(value + mean, value + mean - spread, value + mean + spread)


def anticipation_bound(value: float, forecast: Forecast) -> float:
    """Return the value that the curve will hardly exceed: never less than its present one."""
    return max(value, forecast.high)


@lru_cache(maxsize=4096)
def _student_quantile(freedom: float) -> float:
    return float(student_t.ppf(QUANTILE, freedom))

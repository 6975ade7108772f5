"""Forecast of a learning curve's final value from what other curves gained after its step.

Plain numpy: no study, no trial. All values are in the direction "larger is better".

    y(t)      value of a curve at step t
    g_i       gain of finished curve i after step t: its final value minus y_i(t)
    n         number of gains
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

QUANTILE = 0.96
"""Of the Student distribution, so that intervals hold 90 %: gains have heavier tails than normal
ones, and of the trials to finish each is one that was picked for its luck so far."""

_MIN_GAINS = 3


@dataclass(frozen=True)
class Forecast:
    """Distribution of a final value: its mean and the ends of its central interval."""

    expected: float
    low: float
    high: float

    def times(self, sign: float) -> tuple[float, float, float]:
        """Return expectation, low and high end, mirrored if `sign` is negative."""
        low, high = sorted((sign * self.low, sign * self.high))
        return sign * self.expected, low, high


def forecast_final(value: float, gains: NDArray[np.float64]) -> Forecast | None:
    """Return the predictive distribution of the final value of a curve that stands at `value`.

    The gains are taken as draws of one normal distribution with unknown mean and variance, so
    that the next one has a Student-t distribution with n - 1 degrees of freedom, mean mean(g) and
    scale sd(g) * sqrt(1 + 1/n): few gains give a wide interval.

    Args:
        value: the last value of the curve, finite.
        gains: (n,) gains of finished curves after the same step; non-finite ones are ignored.

    Returns:
        None of fewer than three gains.

    Source: Murphy, Conjugate Bayesian analysis of the Gaussian distribution (2007), section 3.
    """
    gains = gains[np.isfinite(gains)]
    n = len(gains)
    if n < _MIN_GAINS:
        return None
    mean = float(gains.mean())
    spread = _student_quantile(n - 1) * float(gains.std(ddof=1)) * (1 + 1 / n) ** 0.5
    return Forecast(value + mean, value + mean - spread, value + mean + spread)


@lru_cache(maxsize=4096)
def _student_quantile(freedom: int) -> float:
    return float(student_t.ppf(QUANTILE, freedom))

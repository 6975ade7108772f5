"""Forecast of a learning curve's final value from what finished curves gained after its step.

Plain numpy: no study, no trial. All values are in the direction "larger is better".

    y(t)   value of a curve at step t
    g_i    gain of finished curve i after step t: its final value minus y_i(t)
    n      number of gains
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

_MIN_GAINS = 3
_QUANTILE = 0.97


@dataclass(frozen=True)
class Forecast:
    """Distribution of a final value: its mean and the ends of its central interval."""

    expected: float
    low: float
    high: float


def student_quantile(n: int, quantile: float = _QUANTILE) -> float:
    """Return the Student-t quantile with n - 1 degrees of freedom."""
    return float(student_t.ppf(quantile, n - 1))


def forecast_final(value: float, gains: NDArray[np.float64]) -> Forecast | None:
    """Return the predictive distribution of the final value of a curve that stands at `value`.

    The gains are taken as draws of one normal distribution with unknown mean and variance, so
    that the next one has a Student-t distribution with n - 1 degrees of freedom:
    mean + t * sd * sqrt(1 + 1/n). Few gains give a wide interval, which is what makes the upper
    end safe as a bound.

    Args:
        value: the last value of the curve, finite.
        gains: (n,) gains of finished curves after the same step; non-finite ones are ignored.

    Returns:
        None with fewer than three gains.
    """
    gains = gains[np.isfinite(gains)]
    n = len(gains)
    if n < _MIN_GAINS:
        return None
    mean = float(np.mean(gains))
    spread = student_quantile(n) * float(np.std(gains, ddof=1)) * np.sqrt(1 + 1 / n)
    return Forecast(value + mean, value + mean - spread, value + mean + spread)


def anticipation_bound(value: float, forecast: Forecast) -> float:
    """Return the value that the curve will hardly exceed: never less than its present one."""
    return max(value, forecast.high)

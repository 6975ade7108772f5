"""Forecast of a learning curve's final value from what other curves gained after its step.

Plain numpy: no study, no trial. All values are in the direction "larger is better".

    y(t)      value of a curve at step t
    g_i       gain of finished curve i after step t: its final value minus y_i(t)
    n         number of gains
    m, s, k   mean and standard deviation of the gains that prior curves lead to expect, and how
              many observations that expectation is worth
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from optuna_deepweeds.errors import InvalidInputError

QUANTILE = 0.96
"""Of the Student distribution, so that intervals hold 90 %: gains have heavier tails than normal
ones, and of the trials to finish each is one that was picked for its luck so far."""

_MIN_GAINS = 3
_PRIOR_WORTH = 4.0
_TOP_SHARE = 1 / 3
_MIN_CURVES = 3


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


@dataclass(frozen=True)
class GainPrior:
    """What prior curves lead to expect of the gains after a step (m, s, k above)."""

    mean: float
    sd: float
    worth: float


def gain_prior(gains: NDArray[np.float64]) -> GainPrior | None:
    """Summarise the gains of prior curves; None with fewer than three finite ones.

    However many they are, they are worth four gains of the study itself, so they fade as trials
    finish.

    Args:
        gains: (n,) gains of prior curves after one step.
    """
    gains = gains[np.isfinite(gains)]
    if len(gains) < _MIN_GAINS:
        return None
    return GainPrior(float(gains.mean()), float(gains.std(ddof=1)), min(_PRIOR_WORTH, len(gains)))


def forecast_final(
    value: float, gains: NDArray[np.float64], prior: GainPrior | None = None
) -> Forecast | None:
    """Return the predictive distribution of the final value of a curve that stands at `value`.

    The gains are taken as draws of one normal distribution with unknown mean and variance, so
    that the next one has a Student-t distribution. Without a prior it has n - 1 degrees of
    freedom, mean m_n = mean(g) and scale sd(g) * sqrt(1 + 1/n): few gains give a wide interval.
    A prior enters as k earlier gains with mean
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


@lru_cache(maxsize=4096)
def _student_quantile(freedom: float) -> float:
    return float(student_t.ppf(QUANTILE, freedom))


def as_curves(curves: Sequence[ArrayLike], max_resource: int) -> NDArray[np.float64]:
    """Return (n, max_resource) values of the curves that reach `max_resource`.

    Args:
        curves: each one holds the values of consecutive steps, from the first one on. Shorter
            ones say nothing about a final value and are left out; so are non-finite ones.
        max_resource: number of steps of a full training.

    Raises:
        InvalidInputError: A curve is not a sequence of numbers.
    """
    kept = []
    for i, curve in enumerate(curves):
        try:
            values = np.asarray(curve, dtype=float)
        except (TypeError, ValueError):
            values = np.empty((0, 0))
        if values.ndim != 1:
            raise InvalidInputError(
                f"each of `prior_curves` must be a sequence of numbers, but {i} is {curve!r}."
            )
        if len(values) >= max_resource and np.isfinite(values[:max_resource]).all():
            kept.append(values[:max_resource])
    return np.array(kept).reshape(len(kept), max_resource)


def gains_of_leaders(curves: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Return what the best third of the curves at `step` gained until their ends.

    The trials whose gains matter are those that were let through, and these are the leaders.

    Args:
        curves: (n, T) values, larger is better.
        step: 1 to T.
    """
    if len(curves) == 0:
        return np.empty(0)
    values = curves[:, step - 1]
    n_top = max(_MIN_CURVES, int(len(curves) * _TOP_SHARE))
    top = np.argsort(-values, kind="stable")[:n_top]
    return curves[top, -1] - values[top]

"""Expected improvement on the logarithmic scale."""

from __future__ import annotations

import numpy as np
from scipy.special import erfcx, log_ndtr

_LOG_SQRT_2PI = 0.5 * np.log(2.0 * np.pi)
_SQRT_2 = np.sqrt(2.0)
_SQRT_HALF_PI = np.sqrt(0.5 * np.pi)


def log_expected_improvement(mean: np.ndarray, sd: np.ndarray, incumbent: float) -> np.ndarray:
    """log E[max(0, Y - incumbent)] for Y normal with `mean` and `sd`; larger is better.

    Args:
        mean: (n,) predicted means; larger is better.
        sd: (n,) predicted standard deviations, positive.
        incumbent: The value to improve upon.

    Returns:
        (n,) finite values for finite input, however far in the tail.

    Source: Ament et al. 2023, "Unexpected Improvements to Expected Improvement for Bayesian
    Optimization", equation 9, with erfcx in place of its asymptotic branch.
    """
    z = (mean - incumbent) / sd
    log_density = -0.5 * z**2 - _LOG_SQRT_2PI
    result = np.empty_like(z)

    # Near and above the incumbent the textbook formula loses nothing.
    near = z > -1.0
    z_near = z[near]
    result[near] = np.log(np.exp(log_density[near]) + z_near * np.exp(log_ndtr(z_near)))

    # Below it, phi + z * Phi = phi * (1 + z * Phi / phi), where the ratio Phi / phi is
    # sqrt(pi / 2) * erfcx(-z / sqrt(2)) without underflow.
    middle = ~near & (z > -1e3)
    z_middle = z[middle]
    ratio = _SQRT_HALF_PI * erfcx(-z_middle / _SQRT_2)
    result[middle] = log_density[middle] + np.log1p(z_middle * ratio)

    # Further out 1 + z * ratio cancels; it tends to 1 / z**2 (first term of the expansion).
    far = z <= -1e3
    result[far] = log_density[far] - 2.0 * np.log(-z[far])
    return result + np.log(sd)

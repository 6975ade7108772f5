"""A small Gaussian process: the smooth companion of the forest.

Notation: m features of p parameters, K = k(X, X) + noise * I on the scale of a unit signal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from optuna_deepweeds.samplers.kernel import (
    CovariancesWith,
    Kernel,
    alone_scale,
    matern,
    matern_log_slope,
)

_LENGTH_SD = 1.0
_ALONE_SD = 1.5
_NOISE_MEAN, _NOISE_SD = np.log(1e-3), 2.0
_LENGTH_BOUNDS = (np.log(0.05), np.log(50.0))
_ALONE_BOUNDS = (-6.0, 6.0)
_NOISE_BOUNDS = (np.log(1e-6), np.log(1.0))
_MAX_ITERATIONS = 25
_JITTER = 1e-8


def _inverse(L: np.ndarray) -> np.ndarray:
    """(n, n) inverse of L L^T; a third of the work of solving for the unit vectors."""
    lower, _ = dpotri(L, lower=True)
    # Above the diagonal L has zeros, and they are left.
    inverse = lower + lower.T
    inverse[np.diag_indices(len(L))] *= 0.5
    return np.asarray(inverse)


def fit_kernel(F: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Kernel:
    """The kernel that maximises the posterior given F: (n, m) features and y: (n,).

    Columns of one group, such as the choices of a category, share their lengthscale.
    groups: (m,) of ascending numbers from 0; None gives each column its own. The signal variance
    is profiled out. Lengthscales have a log-normal prior that grows with the root of their
    number, as distances do; the logit of the share of single parameters has a normal one.

    Source: Rasmussen and Williams 2006, equations 5.8 and 5.9; prior after Hvarfner et al. 2024.
    """
    n = len(F)
    groups = np.arange(F.shape[1]) if groups is None else groups
    p = int(groups[-1]) + 1
    # Everything below is symmetric: each pair of observations is looked at once.
    rows, columns = np.tril_indices(n, -1)
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    squares = np.add.reduceat((F[rows] - F[columns]) ** 2, starts, axis=1)
    closer = np.sqrt(squares) * alone_scale(p)

    # theta: logarithms of p lengthscales, logit of the share, logarithm of the noise.
    length_mean = np.log(0.5 * alone_scale(p))
    mean = np.r_[np.full(p, length_mean), 0.0, _NOISE_MEAN]
    sd = np.r_[np.full(p, _LENGTH_SD), _ALONE_SD, _NOISE_SD]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        inverse_lengths = np.exp(-theta[:p])
        share = _logistic(theta[p])
        noise = np.exp(theta[p + 1])
        r = np.sqrt(squares @ inverse_lengths**2)
        r_alone = closer * inverse_lengths
        together, alone = matern(r), matern(r_alone).mean(axis=1)
        K = np.zeros((n, n))
        K[rows, columns] = (1.0 - share) * together + share * alone
        K[np.diag_indices(n)] = 1.0 + noise + _JITTER
        L = cholesky(K, lower=True, check_finite=False)
        inverse = _inverse(L)
        alpha = inverse @ y
        signal = float(y @ alpha) / n + 1e-12
        value = 0.5 * n * np.log(signal) + float(np.log(np.diag(L)).sum())
        # d loss / d K for a profiled signal variance, both triangles of K together.
        weight = inverse[rows, columns] - alpha[rows] * alpha[columns] / signal
        on_diagonal = 0.5 * (np.diag(inverse) - alpha**2 / signal)
        # d k / d log l_j = slope(r) / r^2 * (difference_j / l_j)^2 together, slope(r_j) alone.
        slope = matern_log_slope(r) / np.maximum(r, 1e-12) ** 2
        gradient = np.empty(p + 2)
        gradient[:p] = ((1.0 - share) * weight * slope) @ squares * inverse_lengths**2
        gradient[:p] += (share / p) * (weight @ matern_log_slope(r_alone))
        gradient[p] = weight @ (alone - together) * share * (1.0 - share)
        gradient[p + 1] = on_diagonal.sum() * noise
        z = (theta - mean) / sd
        return value + 0.5 * float(z @ z), gradient + z / sd

    bounds = [_LENGTH_BOUNDS] * p + [_ALONE_BOUNDS, _NOISE_BOUNDS]
    options = {"maxiter": _MAX_ITERATIONS}
    theta = minimize(loss, mean, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    lengths, alone, noise = np.exp(theta[:p]), _logistic(theta[p]), float(np.exp(theta[p + 1]))
    return Kernel(lengths[groups], alone, noise, groups)


def _logistic(x: float) -> float:
    return float(1.0 / (1.0 + np.exp(-x)))


@dataclass(frozen=True)
class GaussianProcess:
    """A zero-mean process conditioned on observations, with a fixed kernel."""

    covariances: CovariancesWith
    inverse: np.ndarray
    alpha: np.ndarray
    signal: float

    @classmethod
    def condition(cls, F: np.ndarray, y: np.ndarray, kernel: Kernel) -> GaussianProcess:
        """The process given F: (n, m) features and y: (n,) values."""
        n = len(F)
        covariances = CovariancesWith(kernel, F)
        K = covariances.at(F)
        K[np.diag_indices(n)] = 1.0 + kernel.noise + _JITTER
        inverse = _inverse(cholesky(K, lower=True, check_finite=False))
        alpha = inverse @ y
        return cls(covariances, inverse, alpha, float(y @ alpha) / n + 1e-12)

    def leave_one_out(self, y: np.ndarray) -> np.ndarray:
        """(n,) expected value at each observation, given the others; y: (n,) their values.

        Source: Rasmussen and Williams 2006, equation 5.12.
        """
        return y - self.alpha / np.diag(self.inverse)

    def predict(self, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the noise-free value at F: (a, m) features; (a,) each."""
        # Much of a suggestion's time goes here, and single precision halves it; the cancellation
        # in the variance needs the double one.
        k = self.covariances.at(F, np.float32).astype(np.float64)
        reduction = np.einsum("ij,ij->i", k @ self.inverse, k)
        return k @ self.alpha, self.signal * np.maximum(1.0 - reduction, 1e-9)

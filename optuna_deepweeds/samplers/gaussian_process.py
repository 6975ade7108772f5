"""A small Gaussian process: the smooth companion of the forest.

Notation: m features, K = k(X, X) + noise * I on the scale of a unit signal, theta = the logarithms
of m lengthscales and of the noise variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

_SQRT_5 = np.sqrt(5.0)
_LENGTH_SD = 1.0
_NOISE_MEAN, _NOISE_SD = np.log(1e-3), 2.0
_NOISE_BOUNDS = (np.log(1e-6), np.log(1.0))
_LENGTH_BOUNDS = (np.log(0.05), np.log(50.0))
_MAX_ITERATIONS = 25


def _squared_distance(A: np.ndarray, B: np.ndarray, log_lengths: np.ndarray) -> np.ndarray:
    """(a, b) squared distances between rows after division by the lengthscales."""
    A, B = A / np.exp(log_lengths), B / np.exp(log_lengths)
    squared = A @ (-2.0 * B.T)
    squared += (A**2).sum(axis=1)[:, None]
    squared += (B**2).sum(axis=1)
    return np.maximum(squared, 0.0, out=squared)


def _matern(r: np.ndarray) -> np.ndarray:
    """Matern covariance of smoothness 5/2 at scaled distances r, in the precision of r."""
    s = r * r.dtype.type(_SQRT_5)
    covariance = s * s
    covariance /= r.dtype.type(3.0)
    covariance += s
    covariance += r.dtype.type(1.0)
    np.negative(s, out=s)
    covariance *= np.exp(s, out=s)
    return covariance


def _inverse(L: np.ndarray) -> np.ndarray:
    """(n, n) inverse of L L^T; a third of the work of solving for the unit vectors."""
    lower, _ = dpotri(L, lower=True)
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T)


def fit_hyperparameters(
    F: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None
) -> np.ndarray:
    """theta: (m + 1,) that maximises the posterior given F: (n, m) features and y: (n,).

    Columns of one group, such as the choices of a category, share their lengthscale.
    groups: (m,) of ascending numbers from 0; None gives each column its own. The signal variance
    is profiled out. Lengthscales have a log-normal prior that grows with the root of their
    number, as distances do.

    Source: Rasmussen and Williams 2006, equations 5.8 and 5.9; prior after Hvarfner et al. 2024.
    """
    n = len(F)
    groups = np.arange(F.shape[1]) if groups is None else groups
    m = int(groups[-1]) + 1
    length_mean = np.log(0.5) + 0.5 * np.log(max(m, 2) / 2.0)
    differences = (F[:, None, :] - F[None, :, :]) ** 2
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    differences = np.add.reduceat(differences, starts, axis=2)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        inverse_squares = np.exp(-2.0 * theta[:m])
        r = np.sqrt(differences @ inverse_squares)
        s = _SQRT_5 * r
        decay = np.exp(-s)
        noise = np.exp(theta[m])
        K = (1.0 + s + s**2 / 3.0) * decay
        K[np.diag_indices(n)] += noise + 1e-8
        L = cholesky(K, lower=True, check_finite=False)
        inverse = _inverse(L)
        alpha = inverse @ y
        signal = float(y @ alpha) / n + 1e-12
        value = 0.5 * n * np.log(signal) + float(np.log(np.diag(L)).sum())
        # d loss / d K, for a profiled signal variance.
        weight = 0.5 * (inverse - np.outer(alpha, alpha) / signal)
        # d k / d log l_j = 5/3 (1 + s) exp(-s) * (difference_j / l_j)^2.
        common = weight * (5.0 / 3.0) * (1.0 + s) * decay
        gradient = np.empty(m + 1)
        gradient[:m] = np.tensordot(common, differences, axes=2) * inverse_squares
        gradient[m] = np.trace(weight) * noise
        z = (theta - length_mean) / _LENGTH_SD
        z[m] = (theta[m] - _NOISE_MEAN) / _NOISE_SD
        scale = np.full(m + 1, _LENGTH_SD)
        scale[m] = _NOISE_SD
        return value + 0.5 * float(z @ z), gradient + z / scale

    start = np.full(m + 1, length_mean)
    start[m] = _NOISE_MEAN
    bounds = [_LENGTH_BOUNDS] * m + [_NOISE_BOUNDS]
    result = minimize(
        loss,
        start,
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS},
    )
    return np.r_[result.x[:m][groups], result.x[m]]


@dataclass(frozen=True)
class GaussianProcess:
    """A zero-mean process conditioned on observations, with fixed hyperparameters."""

    F: np.ndarray
    theta: np.ndarray
    inverse: np.ndarray
    alpha: np.ndarray
    signal: float

    @classmethod
    def condition(cls, F: np.ndarray, y: np.ndarray, theta: np.ndarray) -> GaussianProcess:
        """The process given F: (n, m) features and y: (n,) values."""
        n = len(F)
        K = _matern(np.sqrt(_squared_distance(F, F, theta[:-1])))
        K[np.diag_indices(n)] += np.exp(theta[-1]) + 1e-8
        inverse = _inverse(cholesky(K, lower=True, check_finite=False))
        alpha = inverse @ y
        return cls(F, theta, inverse, alpha, float(y @ alpha) / n + 1e-12)

    def leave_one_out(self, y: np.ndarray) -> np.ndarray:
        """(n,) expected value at each observation, given the others; y: (n,) their values.

        Source: Rasmussen and Williams 2006, equation 5.12.
        """
        return y - self.alpha / np.diag(self.inverse)

    def predict(self, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the noise-free value at F: (a, m) features; (a,) each."""
        # Much of a suggestion's time goes here, and single precision halves it; the cancellation
        # in the squares before and in the variance after needs the double one.
        squared = _squared_distance(F, self.F, self.theta[:-1]).astype(np.float32)
        k = _matern(np.sqrt(squared, out=squared)).astype(np.float64)
        reduction = np.einsum("ij,ij->i", k @ self.inverse, k)
        return k @ self.alpha, self.signal * np.maximum(1.0 - reduction, 1e-9)

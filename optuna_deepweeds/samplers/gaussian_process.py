"""A small Gaussian process: the smooth companion of the forest.

Notation: m features of p parameters, K = k(X, X) + noise * I on the scale of a unit signal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from optuna_deepweeds.samplers.encoding import Encoder
from optuna_deepweeds.samplers.history import Observations
from optuna_deepweeds.samplers.seeding import milestone
from optuna_deepweeds.samplers.targets import average_ranks, clipped_values, normal_scores

_SQRT_5 = np.sqrt(5.0)
_LENGTH_SD = 1.0
_NOISE_MEAN, _NOISE_SD = np.log(1e-3), 2.0
_LENGTH_BOUNDS = (np.log(0.05), np.log(50.0))
_NOISE_BOUNDS = (np.log(1e-6), np.log(1.0))
_MAX_ITERATIONS = 25
_JITTER = 1e-8
_MAX_FIT = 120
_MAX_CONDITION = 250
"""Most observations that hyperparameters are fitted to, and that a process is conditioned on."""


@dataclass(frozen=True)
class Kernel:
    """A Matern covariance of smoothness 5/2 and unit variance, and noise on that scale.

    Attributes:
        lengths: (m,) lengthscales of the features.
        noise: Variance of the noise.

    Source: Rasmussen and Williams 2006, equation 4.17.
    """

    lengths: np.ndarray
    noise: float

    def covariances(
        self, A: np.ndarray, B: np.ndarray, dtype: type[np.floating] = np.float64
    ) -> np.ndarray:
        """(a, b) covariances of A: (a, m) with B: (b, m), noise left out, in precision `dtype`."""
        A, B = A / self.lengths, B / self.lengths
        # One product gives |a|^2 - 2 a.b + |b|^2 for all pairs; its cancellation needs double
        # precision, whatever follows.
        left = np.c_[A, (A**2).sum(axis=1), np.ones(len(A))]
        right = np.c_[-2.0 * B, np.ones(len(B)), (B**2).sum(axis=1)]
        return _matern(np.sqrt(np.maximum(left @ right.T, 0.0).astype(dtype)))


def _matern(r: np.ndarray) -> np.ndarray:
    """Covariance of smoothness 5/2 at scaled distances r, in the precision of r."""
    s = r * r.dtype.type(_SQRT_5)
    covariance = s * s
    covariance /= r.dtype.type(3.0)
    covariance += s
    covariance += r.dtype.type(1.0)
    np.negative(s, out=s)
    covariance *= np.exp(s, out=s)
    return covariance


def fit_kernel(F: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Kernel:
    """The kernel that maximises the posterior given F: (n, m) features and y: (n,).

    Columns of one group, such as the choices of a category, share their lengthscale.
    groups: (m,) of ascending numbers from 0; None gives each column its own. The signal variance
    is profiled out. Lengthscales have a log-normal prior that grows with the root of their
    number, as distances do.

    Source: Rasmussen and Williams 2006, equations 5.8 and 5.9; prior after Hvarfner et al. 2024.
    """
    n = len(F)
    groups = np.arange(F.shape[1]) if groups is None else groups
    p = int(groups[-1]) + 1
    # Everything below is symmetric: each pair of observations is looked at once.
    rows, columns = np.tril_indices(n, -1)
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    squares = np.add.reduceat((F[rows] - F[columns]) ** 2, starts, axis=1)

    # theta: logarithms of p lengthscales, logarithm of the noise.
    mean = np.r_[np.full(p, np.log(0.5 * np.sqrt(max(p, 2) / 2.0))), _NOISE_MEAN]
    sd = np.r_[np.full(p, _LENGTH_SD), _NOISE_SD]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        inverse_squares = np.exp(-2.0 * theta[:p])
        noise = np.exp(theta[p])
        s = _SQRT_5 * np.sqrt(squares @ inverse_squares)
        K = np.zeros((n, n))
        K[rows, columns] = (1.0 + s + s**2 / 3.0) * np.exp(-s)
        K[np.diag_indices(n)] = 1.0 + noise + _JITTER
        L = cholesky(K, lower=True, check_finite=False)
        inverse = _inverse(L)
        alpha = inverse @ y
        signal = float(y @ alpha) / n + 1e-12
        value = 0.5 * n * np.log(signal) + float(np.log(np.diag(L)).sum())
        # d loss / d K for a profiled signal variance, both triangles of K together.
        weight = inverse[rows, columns] - alpha[rows] * alpha[columns] / signal
        on_diagonal = 0.5 * (np.diag(inverse) - alpha**2 / signal)
        # d k / d log l_j = 5/3 (1 + s) exp(-s) * (difference_j / l_j)^2.
        slope = weight * (1.0 + s) * np.exp(-s) * (5.0 / 3.0)
        gradient = np.r_[slope @ squares * inverse_squares, on_diagonal.sum() * noise]
        z = (theta - mean) / sd
        return value + 0.5 * float(z @ z), gradient + z / sd

    bounds = [_LENGTH_BOUNDS] * p + [_NOISE_BOUNDS]
    options = {"maxiter": _MAX_ITERATIONS}
    theta = minimize(loss, mean, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    return Kernel(np.exp(theta[:p])[groups], float(np.exp(theta[p])))


def _inverse(L: np.ndarray) -> np.ndarray:
    """(n, n) inverse of L L^T; a third of the work of solving for the unit vectors."""
    lower, _ = dpotri(L, lower=True)
    # Above the diagonal L has zeros, and they are left.
    inverse = lower + lower.T
    inverse[np.diag_indices(len(L))] *= 0.5
    return np.asarray(inverse)


@dataclass(frozen=True)
class GaussianProcess:
    """A zero-mean process conditioned on observations, with a fixed kernel."""

    kernel: Kernel
    F: np.ndarray
    inverse: np.ndarray
    alpha: np.ndarray
    signal: float

    @classmethod
    def condition(cls, F: np.ndarray, y: np.ndarray, kernel: Kernel) -> GaussianProcess:
        """The process given F: (n, m) features and y: (n,) values."""
        n = len(F)
        K = kernel.covariances(F, F)
        K[np.diag_indices(n)] = 1.0 + kernel.noise + _JITTER
        inverse = _inverse(cholesky(K, lower=True, check_finite=False))
        alpha = inverse @ y
        return cls(kernel, F, inverse, alpha, float(y @ alpha) / n + 1e-12)

    def leave_one_out(self, y: np.ndarray) -> np.ndarray:
        """(n,) expected value at each observation, given the others; y: (n,) their values.

        Source: Rasmussen and Williams 2006, equation 5.12.
        """
        return y - self.alpha / np.diag(self.inverse)

    def predict(self, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the noise-free value at F: (a, m) features; (a,) each."""
        # Much of a suggestion's time goes here, and single precision halves it; the cancellation
        # in the variance needs the double one.
        k = self.kernel.covariances(F, self.F, np.float32).astype(np.float64)
        reduction = np.einsum("ij,ij->i", k @ self.inverse, k)
        return k @ self.alpha, self.signal * np.maximum(1.0 - reduction, 1e-9)


class SmoothSurrogate:
    """A Gaussian process conditioned on codes.

    Attributes:
        rows: Which of the observations it is conditioned on.
    """

    def __init__(self, encoder: Encoder, X: np.ndarray, y: np.ndarray, kernel: Kernel) -> None:
        self._encoder = encoder
        F = encoder.features(X)
        self.rows = representatives(F / kernel.lengths, y, _MAX_CONDITION)
        self._y = y[self.rows]
        self._shift = float(y.mean())
        self._process = GaussianProcess.condition(F[self.rows], self._y - self._shift, kernel)

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance, (n,) each, at X: (n, d) codes."""
        mean, variance = self._process.predict(self._encoder.features(X))
        return mean + self._shift, variance

    def leave_one_out(self) -> np.ndarray:
        """(r,) expected value at each of `rows`, given the others."""
        return self._process.leave_one_out(self._y - self._shift) + self._shift


class Kernels:
    """The kernel of the process for a study, fitted anew whenever it has grown by a fifth.

    It is fitted to the first so many trials alone, so a sampler that starts in the middle of
    a study arrives at the same one. The last fit is kept to save time.

    Args:
        of_values: Fit it to clipped values instead of normal scores.
    """

    def __init__(self, *, of_values: bool) -> None:
        self._of_values = of_values
        self._key: bytes | None = None
        self._kernel: Kernel | None = None

    def of(self, seen: Observations) -> Kernel:
        """The kernel for the study as seen."""
        n = milestone(len(seen.X))
        X, ranks, values = seen.X[:n], average_ranks(seen.ranks[:n, None]), seen.values[:n]
        key = X.tobytes() + ranks.tobytes() + values.tobytes()
        if self._kernel is None or key != self._key:
            F = seen.encoder.features(X)
            rows = representatives(F, ranks, _MAX_FIT)
            if self._of_values:
                y = clipped_values(values[rows])
            else:
                y = normal_scores(ranks)[rows]
                y = y - y.mean()
            self._kernel = fit_kernel(F[rows], y, seen.encoder.feature_groups)
            self._key = key
        return self._kernel


def representatives(F: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    """(r,) at most `n` rows that stand for F: (m, k) features with y: (m,) values.

    Half of them are the best, which tell where to look next. The others lie as far from these
    and from one another as can be (Gonzalez 1985, farthest-first): what is known to be bad must
    not be forgotten, or it would be tried again and again.
    """
    order = np.argsort(-y, kind="stable")
    if len(order) <= n:
        return order
    rows = order[: n - n // 2].tolist()
    squares = (F**2).sum(axis=1)

    def squared_distances(to: list[int]) -> np.ndarray:
        return squares[:, None] + squares[to] - 2.0 * (F @ F[to].T)

    nearest = squared_distances(rows).min(axis=1)
    while len(rows) < n:
        nearest[rows] = -np.inf
        rows.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, squared_distances(rows[-1:])[:, 0])
    return np.array(rows)

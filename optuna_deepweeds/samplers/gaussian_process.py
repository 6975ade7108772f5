"""A small Gaussian process: the smooth companion of the forest.

Notation: m features of p parameters, K = k(X, X) + noise * I on the scale of a unit signal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize
from scipy.special import expit

_SQRT_5 = np.sqrt(5.0)
_LENGTH_SD = 1.0
_ALONE_SD = 1.5
_NOISE_MEAN, _NOISE_SD = np.log(1e-3), 2.0
_LENGTH_BOUNDS = (np.log(0.05), np.log(50.0))
_ALONE_BOUNDS = (-6.0, 6.0)
_NOISE_BOUNDS = (np.log(1e-6), np.log(1.0))
_MAX_ITERATIONS = 25
_JITTER = 1e-8
MAX_FIT = 120
_MAX_CONDITION = 250
"""Most observations that a kernel is fitted to, and that a process is conditioned on."""


@dataclass(frozen=True)
class Kernel:
    """A covariance of unit variance, plus the variance of the noise on that scale.

    A share of it sees all parameters together: points are alike where every parameter is. The
    rest is a sum over single parameters: what one of them does is the same whatever the others
    are, which is learnt from few observations and through much noise.

    Attributes:
        lengths: (m,) lengthscales of the features.
        alone: Share of the sum over single parameters, from 0 to 1.
        noise: Variance of the noise.
        groups: (m,) ascending numbers from 0 of the parameters that the features stand for.

    Source: additive processes, Duvenaud, Nickisch and Rasmussen 2011; Matern covariances of
    smoothness 5/2, Rasmussen and Williams 2006, equation 4.17.
    """

    lengths: np.ndarray
    alone: float
    noise: float
    groups: np.ndarray

    def covariances(
        self, A: np.ndarray, B: np.ndarray, dtype: type[np.floating] = np.float64
    ) -> np.ndarray:
        """(a, b) covariances of A: (a, m) and B: (b, m), noise left out, in precision `dtype`.

        Many points share the few values of a parameter: what it contributes alone is computed
        once for each value.
        """
        A, B = A / self.lengths, B / self.lengths
        p = int(self.groups[-1]) + 1
        covariance = _matern(_distances(A, B).astype(dtype))
        covariance *= dtype(1.0 - self.alone)
        for group in range(p):
            columns = self.groups == group
            own = A[:, columns]
            # Weights without rational relations: sums of different rows do not meet by chance.
            keys = own @ np.cos(np.arange(1.0, own.shape[1] + 1.0))
            _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
            r = _distances(own[first], B[:, columns]).astype(dtype)
            alone = _matern(r * dtype(_closer(p)))
            alone *= dtype(self.alone / p)
            covariance += alone[inverse]
        return covariance


def _closer(n_parameters: int) -> float:
    """Factor of a parameter's distances where it stands alone.

    Distances grow with the root of the number of parameters, and so do the lengthscales that
    suit them; a parameter alone is measured as one of two.
    """
    return float(np.sqrt(max(n_parameters, 2) / 2.0))


def _distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """(a, b) distances between rows."""
    if A.shape[1] == 1:
        return np.abs(A - B[:, 0])
    # One product gives |a|^2 - 2 a.b + |b|^2 for all pairs.
    left = np.c_[A, (A**2).sum(axis=1), np.ones(len(A))]
    right = np.c_[-2.0 * B, np.ones(len(B)), (B**2).sum(axis=1)]
    return np.sqrt(np.maximum(left @ right.T, 0.0))


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


def _matern_log_slope(r: np.ndarray) -> np.ndarray:
    """Derivative of `_matern` by the logarithm of a common lengthscale at scaled distances r."""
    s = r * _SQRT_5
    return np.asarray(s**2 * (1.0 + s) * np.exp(-s) / 3.0)


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
    closer = np.sqrt(squares) * _closer(p)

    # theta: logarithms of p lengthscales, logit of the share, logarithm of the noise.
    mean = np.r_[np.full(p, np.log(0.5 * _closer(p))), 0.0, _NOISE_MEAN]
    sd = np.r_[np.full(p, _LENGTH_SD), _ALONE_SD, _NOISE_SD]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        inverse_lengths = np.exp(-theta[:p])
        share = float(expit(theta[p]))
        noise = np.exp(theta[p + 1])
        r = np.sqrt(squares @ inverse_lengths**2)
        r_alone = closer * inverse_lengths
        together, alone = _matern(r), _matern(r_alone).mean(axis=1)
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
        slope = _matern_log_slope(r) / np.maximum(r, 1e-12) ** 2
        gradient = np.empty(p + 2)
        gradient[:p] = ((1.0 - share) * weight * slope) @ squares * inverse_lengths**2
        gradient[:p] += (share / p) * (weight @ _matern_log_slope(r_alone))
        gradient[p] = weight @ (alone - together) * share * (1.0 - share)
        gradient[p + 1] = on_diagonal.sum() * noise
        z = (theta - mean) / sd
        return value + 0.5 * float(z @ z), gradient + z / sd

    bounds = [_LENGTH_BOUNDS] * p + [_ALONE_BOUNDS, _NOISE_BOUNDS]
    options = {"maxiter": _MAX_ITERATIONS}
    theta = minimize(loss, mean, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    lengths, alone, noise = np.exp(theta[:p]), float(expit(theta[p])), float(np.exp(theta[p + 1]))
    return Kernel(lengths[groups], alone, noise, groups)


def _inverse(L: np.ndarray) -> np.ndarray:
    """(n, n) inverse of L L^T; a third of the work of solving for the unit vectors."""
    lower, _ = dpotri(L, lower=True)
    # Above the diagonal L has zeros, and they are left.
    inverse = lower + lower.T
    inverse[np.diag_indices(len(L))] *= 0.5
    return np.asarray(inverse)


class GaussianProcess:
    """A process conditioned on observations, or on representatives of very many.

    Args:
        F: (n, m) features.
        y: (n,) values; far away from all observations their mean is expected.
        kernel: The kernel.

    Attributes:
        rows: (r,) which of the observations it is conditioned on.
    """

    def __init__(self, F: np.ndarray, y: np.ndarray, kernel: Kernel) -> None:
        self.rows = representatives(F / kernel.lengths, y, _MAX_CONDITION)
        self._kernel, self._F, self._y = kernel, F[self.rows], y[self.rows]
        self._mean = float(y.mean())
        K = kernel.covariances(self._F, self._F)
        K[np.diag_indices(len(K))] = 1.0 + kernel.noise + _JITTER
        self._inverse = _inverse(cholesky(K, lower=True, check_finite=False))
        centred = self._y - self._mean
        self._alpha = self._inverse @ centred
        self._signal = float(centred @ self._alpha) / len(K) + 1e-12

    def leave_one_out(self) -> np.ndarray:
        """(r,) expected value at each of `rows`, given the others.

        Source: Rasmussen and Williams 2006, equation 5.12.
        """
        centred = self._y - self._mean
        return centred - self._alpha / np.diag(self._inverse) + self._mean

    def predict(self, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the noise-free value at F: (a, m) features; (a,) each."""
        # Much of a suggestion's time goes here, and single precision halves it; the cancellation
        # in the variance needs the double one.
        k = self._kernel.covariances(F, self._F, np.float32).astype(np.float64)
        reduction = np.einsum("ij,ij->i", k @ self._inverse, k)
        return k @ self._alpha + self._mean, self._signal * np.maximum(1.0 - reduction, 1e-9)


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

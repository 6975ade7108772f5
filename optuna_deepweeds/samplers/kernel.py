"""The covariance of the Gaussian process: parameters together, and each alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SQRT_5 = np.sqrt(5.0)


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

    def covariance(
        self, A: np.ndarray, B: np.ndarray, dtype: type[np.floating] = np.float64
    ) -> np.ndarray:
        """(a, b) covariances, in precision `dtype`, of A: (a, m) and B: (b, m) without noise."""
        A, B = A / self.lengths, B / self.lengths
        # The cancellation in the squares needs double precision, whatever follows.
        covariance = matern(np.sqrt(_squared_distance(A, B).astype(dtype)))
        covariance *= dtype(1.0 - self.alone)
        n_parameters = int(self.groups[-1]) + 1
        closer, share = dtype(alone_scale(n_parameters)), dtype(self.alone / n_parameters)
        bounds = np.searchsorted(self.groups, np.arange(n_parameters + 1))
        for first, end in zip(bounds[:-1], bounds[1:], strict=True):
            # Among many rows a parameter takes few values: a table of those is soon looked up.
            # Weights without rational relations give each of them a key of its own.
            key = A[:, first:end] @ np.cos(np.arange(1.0, end - first + 1.0))
            _, rows, index = np.unique(key, return_index=True, return_inverse=True)
            squared = _squared_distance(A[rows, first:end], B[:, first:end])
            table = matern(np.sqrt(squared.astype(dtype)) * closer)
            table *= share
            covariance += table[index]
        return covariance


def alone_scale(n_parameters: int) -> float:
    """Factor of a parameter's distances where it stands alone.

    Distances grow with the root of the number of parameters, and so do the lengthscales that
    suit them; a parameter alone is measured as one of two.
    """
    return float(np.sqrt(max(n_parameters, 2) / 2.0))


def matern(r: np.ndarray) -> np.ndarray:
    """Covariance of smoothness 5/2 at scaled distances r, in the precision of r."""
    s = r * r.dtype.type(_SQRT_5)
    covariance = s * s
    covariance /= r.dtype.type(3.0)
    covariance += s
    covariance += r.dtype.type(1.0)
    np.negative(s, out=s)
    covariance *= np.exp(s, out=s)
    return covariance


def matern_log_slope(r: np.ndarray) -> np.ndarray:
    """Derivative of `matern` by the logarithm of a common lengthscale at scaled distances r."""
    s = r * _SQRT_5
    return np.asarray(s**2 * (1.0 + s) * np.exp(-s) / 3.0)


def _squared_distance(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """(a, b) squared distances between rows."""
    # One product gives |a|^2 - 2 a.b + |b|^2 for all pairs.
    ones = np.ones((len(A), 1)), np.ones((len(B), 1))
    left = np.concatenate([A, (A**2).sum(axis=1, keepdims=True), ones[0]], axis=1)
    right = np.concatenate([-2.0 * B, ones[1], (B**2).sum(axis=1, keepdims=True)], axis=1)
    squared = left @ right.T
    return np.maximum(squared, 0.0, out=squared)

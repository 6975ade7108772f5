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


class CovariancesWith:
    """Covariances with fixed points, noise left out.

    Many points share the few values of a parameter, so what it contributes alone is looked up in
    a table of the values that the fixed points have; other values are computed.

    Args:
        kernel: The kernel.
        B: (b, m) the fixed points.
    """

    def __init__(self, kernel: Kernel, B: np.ndarray) -> None:
        self._kernel = kernel
        self._B = B / kernel.lengths
        p = int(kernel.groups[-1]) + 1
        bounds = np.searchsorted(kernel.groups, np.arange(p + 1))
        self._columns = [slice(*ends) for ends in zip(bounds[:-1], bounds[1:], strict=True)]
        self._closer, self._share = alone_scale(p), kernel.alone / p
        self._tables = []
        for columns in self._columns:
            keys, rows = np.unique(_keys(self._B[:, columns]), return_index=True)
            self._tables.append((keys, self._alone(self._B[rows], columns, np.float64)))

    def at(self, A: np.ndarray, dtype: type[np.floating] = np.float64) -> np.ndarray:
        """(a, b) covariances of A: (a, m), in precision `dtype`."""
        A = A / self._kernel.lengths
        # The cancellation in the squares needs double precision, whatever follows.
        covariance = matern(np.sqrt(_squared_distance(A, self._B).astype(dtype)))
        covariance *= dtype(1.0 - self._kernel.alone)
        for columns, (keys, table) in zip(self._columns, self._tables, strict=True):
            wanted = _keys(A[:, columns])
            index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            is_new = keys[index] != wanted
            table = table.astype(dtype)
            if is_new.any():
                _, rows, order = np.unique(wanted[is_new], return_index=True, return_inverse=True)
                table = np.concatenate([table, self._alone(A[is_new][rows], columns, dtype)])
                index[is_new] = len(keys) + order
            covariance += table[index]
        return covariance

    def _alone(self, A: np.ndarray, columns: slice, dtype: type[np.floating]) -> np.ndarray:
        A, B = A[:, columns], self._B[:, columns]
        if A.shape[1] == 1:
            r = np.abs(A.astype(dtype) - B[:, 0].astype(dtype))
        else:
            r = np.sqrt(_squared_distance(A, B).astype(dtype))
        covariance = matern(r * dtype(self._closer))
        covariance *= dtype(self._share)
        return covariance


def _keys(A: np.ndarray) -> np.ndarray:
    """(a,) a number for each row of A: (a, k), equal where rows are."""
    # Weights without rational relations: sums of grid points do not meet by chance.
    return np.asarray(A @ np.cos(np.arange(1.0, A.shape[1] + 1.0)))


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
    left = np.c_[A, (A**2).sum(axis=1), np.ones(len(A))]
    right = np.c_[-2.0 * B, np.ones(len(B)), (B**2).sum(axis=1)]
    squared = left @ right.T
    return np.maximum(squared, 0.0, out=squared)

"""The Gaussian process as a surrogate on configurations."""

from __future__ import annotations

import numpy as np

from optuna_deepweeds.samplers.encoding import Encoder
from optuna_deepweeds.samplers.gaussian_process import GaussianProcess, fit_kernel
from optuna_deepweeds.samplers.history import Observations
from optuna_deepweeds.samplers.kernel import Kernel
from optuna_deepweeds.samplers.milestones import milestone
from optuna_deepweeds.samplers.targets import average_ranks, clipped_values, tempered_scores

_MAX_FIT = 120
_MAX_CONDITION = 250
"""Most observations that hyperparameters are fitted to, and that a process is conditioned on."""


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
        of_values: Fit it to clipped values instead of tempered scores.
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
                y = tempered_scores(ranks, values)[rows]
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

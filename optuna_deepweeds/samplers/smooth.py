"""The Gaussian process as a surrogate on configurations."""

from __future__ import annotations

import numpy as np

from optuna_deepweeds.samplers.encoding import Encoder
from optuna_deepweeds.samplers.gaussian_process import GaussianProcess, fit_hyperparameters
from optuna_deepweeds.samplers.history import Observations
from optuna_deepweeds.samplers.targets import clipped_values

_GROWTH = 1.2
_MAX_FIT = 120
_MAX_CONDITION = 200


class SmoothSurrogate:
    """A Gaussian process conditioned on codes."""

    def __init__(self, encoder: Encoder, X: np.ndarray, y: np.ndarray, theta: np.ndarray) -> None:
        self._encoder = encoder
        # Beyond this many the best suffice: they decide where to look next.
        rows = np.argsort(-y, kind="stable")[:_MAX_CONDITION]
        self._shift = float(y[rows].mean())
        self._process = GaussianProcess.condition(
            encoder.features(X[rows]), y[rows] - self._shift, theta
        )

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance, (n,) each, at X: (n, d) codes."""
        mean, variance = self._process.predict(self._encoder.features(X))
        return mean + self._shift, variance


class Hyperparameters:
    """Hyperparameters of the process for a study, fitted anew whenever it has grown by a fifth.

    They are fitted to the first so many trials alone, so a sampler that starts in the middle of
    a study arrives at the same ones. The last fit is kept to save time.
    """

    def __init__(self) -> None:
        self._key: bytes | None = None
        self._theta = np.empty(0)

    def of(self, seen: Observations) -> np.ndarray:
        """theta for the study as seen."""
        n = _milestone(len(seen.X))
        X, ranks, values = seen.X[:n], seen.ranks[:n], seen.values[:n]
        rows = np.argsort(-ranks, kind="stable")[:_MAX_FIT]
        key = X[rows].tobytes() + values[rows].tobytes()
        if key != self._key:
            y = clipped_values(values[rows])
            self._theta = fit_hyperparameters(seen.encoder.features(X[rows]), y)
            self._key = key
        return self._theta


def _milestone(n: int) -> int:
    """The largest member of a geometric sequence that is at most n."""
    milestone = min(n, 4)
    while True:
        following = max(milestone + 1, int(milestone * _GROWTH))
        if following > n:
            return milestone
        milestone = following

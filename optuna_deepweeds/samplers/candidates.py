"""Candidate configurations: uniform draws and neighbours, conditions respected."""

from __future__ import annotations

import numpy as np

from optuna_deepweeds.samplers.conditions import Conditions
from optuna_deepweeds.samplers.encoding import MISSING, Encoder

_LARGEST_GRID = 8
"""Parameters with at most this many values are exchanged for each of them."""
_STEP_SIZES = (0.2, 0.2, 0.05, 0.05)
"""Standard deviations of the Gaussian steps along every other parameter."""


class CandidateSpace:
    """Draws rows of codes that are real, conditionally complete configurations."""

    def __init__(self, encoder: Encoder, conditions: Conditions) -> None:
        self._encoder = encoder
        self._conditions = conditions

    def keys(self, X: np.ndarray) -> np.ndarray:
        """(n,) keys that are equal where configurations count as the same."""
        return self._encoder.keys(X)

    def random(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, d) uniform draws."""
        return self._finish(rng.random((n, len(self._encoder))))

    def neighbours(self, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows that differ from a row of X: (n, d) in one active parameter.

        Discrete parameters with few values and categoricals take each other value, the rest
        takes Gaussian steps. What an exchange switches on is drawn uniformly.
        """
        full = np.where(X == MISSING, rng.random(X.shape), X)
        groups = [np.empty((0, X.shape[1]))]
        for j, dimension in enumerate(self._encoder.dimensions):
            active = np.flatnonzero(X[:, j] != MISSING)
            if len(active) == 0:
                continue
            k = dimension.n_values
            if k is not None and (k <= _LARGEST_GRID or dimension.is_categorical):
                grid = dimension.grid()
                if k > _LARGEST_GRID:
                    grid = rng.choice(grid, _LARGEST_GRID, replace=False)
                codes = np.tile(grid, (len(active), 1))
            else:
                steps = rng.normal(size=(len(active), len(_STEP_SIZES))) * _STEP_SIZES
                codes = _reflect(full[active, j][:, None] + steps)
            group = np.repeat(full[active], codes.shape[1], axis=0)
            group[:, j] = codes.ravel()
            groups.append(group)
        return self._finish(np.concatenate(groups))

    def _finish(self, X: np.ndarray) -> np.ndarray:
        return self._conditions.apply(self._encoder.snap(X))


def _reflect(codes: np.ndarray) -> np.ndarray:
    """Fold `codes` back into [0, 1], so that the ends gather no mass."""
    folded = np.abs(codes) % 2.0
    return np.minimum(folded, 2.0 - folded)

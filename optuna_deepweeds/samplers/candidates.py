"""Candidate configurations: uniform draws and neighbours, conditions respected."""

from __future__ import annotations

import numpy as np

from optuna_deepweeds.samplers.conditions import Conditions
from optuna_deepweeds.samplers.encoding import LARGEST_GRID, MISSING, Encoder

_N_STEPS = 4
"""Gaussian steps along every other parameter."""
_N_JOINT = 8
"""Gaussian steps along all of those at once."""
_LOG10_STEP = (-2.7, -0.5)
"""Range of the logarithm of a step's standard deviation, from fine tuning to long jumps."""


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
        """Rows that differ from a row of X: (n, d) in one active parameter, or take a joint step.

        Discrete parameters with few values and categoricals take each other value, the rest
        takes Gaussian steps, one at a time and all together. What an exchange switches on is
        drawn uniformly.
        """
        full = np.where(X == MISSING, rng.random(X.shape), X)
        groups = [np.empty((0, X.shape[1]))]
        stepped = []
        for j, dimension in enumerate(self._encoder.dimensions):
            active = np.flatnonzero(X[:, j] != MISSING)
            if not dimension.has_long_range:
                grid = dimension.grid()
                if len(grid) > LARGEST_GRID:
                    grid = rng.choice(grid, LARGEST_GRID, replace=False)
                codes = np.tile(grid, (len(active), 1))
            else:
                stepped.append(j)
                codes = full[active, j][:, None] + _steps((len(active), _N_STEPS), rng)
            group = np.repeat(full[active], codes.shape[1], axis=0)
            group[:, j] = _reflect(codes.ravel())
            groups.append(group)
        if len(stepped) > 1:
            group = np.repeat(full, _N_JOINT, axis=0)
            sizes = _sizes((len(group), 1), rng)
            group[:, stepped] += sizes * rng.normal(size=(len(group), len(stepped)))
            group[:, stepped] = _reflect(group[:, stepped])
            groups.append(group)
        return self._finish(np.concatenate(groups))

    def _finish(self, X: np.ndarray) -> np.ndarray:
        return self._conditions.apply(self._encoder.snap(X))


def _sizes(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return 10.0 ** rng.uniform(*_LOG10_STEP, size=shape)


def _steps(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return _sizes(shape, rng) * rng.normal(size=shape)


def _reflect(codes: np.ndarray) -> np.ndarray:
    """Fold `codes` back into [0, 1], so that the ends gather no mass."""
    folded = np.abs(codes) % 2.0
    return np.minimum(folded, 2.0 - folded)

"""Where to look next: expected improvement, candidates, and the search among them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import erfcx, log_ndtr

from optuna_deepweeds.samplers.conditions import Conditions
from optuna_deepweeds.samplers.encoding import LARGEST_GRID, MISSING, Encoder

_LOG_SQRT_2PI = 0.5 * np.log(2.0 * np.pi)
_SQRT_2 = np.sqrt(2.0)
_SQRT_HALF_PI = np.sqrt(0.5 * np.pi)


def log_expected_improvement(mean: np.ndarray, sd: np.ndarray, incumbent: float) -> np.ndarray:
    """log E[max(0, Y - incumbent)] for Y normal with `mean` and `sd`; larger is better.

    Args:
        mean: (n,) predicted means; larger is better.
        sd: (n,) predicted standard deviations, positive.
        incumbent: The value to improve upon.

    Returns:
        (n,) finite values for finite input, however far in the tail.

    Source: Ament et al. 2023, "Unexpected Improvements to Expected Improvement for Bayesian
    Optimization", equation 9, with erfcx in place of its asymptotic branch.
    """
    z = (mean - incumbent) / sd
    log_density = -0.5 * z**2 - _LOG_SQRT_2PI
    result = np.empty_like(z)

    # Near and above the incumbent the textbook formula loses nothing.
    near = z > -1.0
    z_near = z[near]
    result[near] = np.log(np.exp(log_density[near]) + z_near * np.exp(log_ndtr(z_near)))

    # Below it, phi + z * Phi = phi * (1 + z * Phi / phi), where the ratio Phi / phi is
    # sqrt(pi / 2) * erfcx(-z / sqrt(2)) without underflow.
    middle = ~near & (z > -1e3)
    z_middle = z[middle]
    ratio = _SQRT_HALF_PI * erfcx(-z_middle / _SQRT_2)
    result[middle] = log_density[middle] + np.log1p(z_middle * ratio)

    # Further out 1 + z * ratio cancels; it tends to 1 / z**2 (first term of the expansion).
    far = z <= -1e3
    result[far] = log_density[far] - 2.0 * np.log(-z[far])
    return result + np.log(sd)


_N_STEPS = 4
"""Gaussian steps along every other parameter."""
_N_JOINT = 8
"""Gaussian steps along all of those at once."""
_LOG10_STEP = (-2.7, -0.5)
"""Range of the logarithm of a step's standard deviation, from fine tuning to long jumps."""


class CandidateSpace:
    """Draws rows of codes that are real, conditionally complete configurations.

    Args:
        encoder: The parameters.
        conditions: Which of them are active.
        fixed: (d,) codes that all rows have; NaN, or None for all, leaves a parameter free.
    """

    def __init__(
        self, encoder: Encoder, conditions: Conditions, fixed: np.ndarray | None = None
    ) -> None:
        self._encoder = encoder
        self._conditions = conditions
        self._fixed = np.full(len(encoder), np.nan) if fixed is None else fixed

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
                shape = (len(active), _N_STEPS)
                codes = full[active, j][:, None] + _sizes(shape, rng) * rng.normal(size=shape)
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
        X = np.where(np.isnan(self._fixed), X, self._fixed)
        return self._conditions.apply(self._encoder.snap(X))


def _sizes(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Standard deviations of steps."""
    return 10.0 ** rng.uniform(*_LOG10_STEP, size=shape)


def _reflect(codes: np.ndarray) -> np.ndarray:
    """Fold `codes` back into [0, 1], so that the ends gather no mass."""
    folded = np.abs(codes) % 2.0
    return np.minimum(folded, 2.0 - folded)


_N_RANDOM = 500
_N_STARTS = 10
_N_ROUNDS = 3


def maximise(
    acquisition: Callable[[np.ndarray], np.ndarray],
    space: CandidateSpace,
    observed: np.ndarray,
    taken: np.ndarray,
    rng: np.random.Generator,
    *,
    n_rounds: int = _N_ROUNDS,
) -> np.ndarray:
    """The row with the largest acquisition that has not been taken.

    Scores uniform draws and the neighbours of good observations in one batch, then climbs:
    each round scores the neighbours of the best rows so far.

    Args:
        acquisition: Maps rows (m, d) to (m,); larger is better.
        space: Where candidates come from.
        observed: (s, d) observed rows, best first; neighbours of the first few are scored.
        taken: Sorted or unsorted keys of rows that must not be returned (evaluated or running).
        rng: Breaks ties and draws candidates.
        n_rounds: Most rounds of climbing; it stops at the first one without a gain.

    Returns:
        (d,) row. If everything drawn has been taken, as in a small exhausted space, the best of
        what was taken.
    """
    taken = np.sort(taken)
    random = space.random(_N_RANDOM, rng)
    pool = _fresh(
        np.concatenate([random, space.neighbours(observed[:_N_STARTS], rng)]), space, taken
    )
    if len(pool) == 0:
        pool = random
    # Flat acquisitions, as those of forests, tie often; a shuffled pool breaks ties at random.
    pool = pool[rng.permutation(len(pool))]
    scores = acquisition(pool)
    for _ in range(n_rounds):
        starts = np.argsort(-scores, kind="stable")[:_N_STARTS]
        best = scores[starts[0]]
        step = _fresh(space.neighbours(pool[starts], rng), space, taken, space.keys(pool))
        if len(step) == 0:
            break
        pool = np.concatenate([pool, step])
        scores = np.concatenate([scores, acquisition(step)])
        if scores.max() <= best:
            break
    return pool[int(np.argmax(scores))]


def _fresh(
    X: np.ndarray, space: CandidateSpace, taken: np.ndarray, pool: np.ndarray | None = None
) -> np.ndarray:
    """Rows of X without repetition whose key is neither in sorted `taken` nor in `pool`."""
    keys, first = np.unique(space.keys(X), return_index=True)
    is_fresh = ~_contains(taken, keys)
    if pool is not None:
        is_fresh &= ~np.isin(keys, pool)
    return X[np.sort(first[is_fresh])]


def _contains(ordered: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """(k,) True where a key is among `ordered`, of which there may be many thousands."""
    if len(ordered) == 0:
        return np.zeros(len(keys), dtype=bool)
    places = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return np.asarray(ordered[places] == keys)

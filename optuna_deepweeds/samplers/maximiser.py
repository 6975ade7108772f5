"""Maximising an acquisition function over a mixed, conditional space."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from optuna_deepweeds.samplers.candidates import CandidateSpace

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
    n_random: int = _N_RANDOM,
    n_starts: int = _N_STARTS,
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
        n_random: Number of uniform draws.
        n_starts: Number of rows whose neighbours are scored, in every round.
        n_rounds: Most rounds of climbing; it stops at the first one without a gain.

    Returns:
        (d,) row. If everything drawn has been taken, as in a small exhausted space, the best of
        what was taken.
    """
    taken = np.sort(taken)
    random = space.random(n_random, rng)
    pool = _fresh(
        np.concatenate([random, space.neighbours(observed[:n_starts], rng)]), space, taken
    )
    if len(pool) == 0:
        pool = random
    # Flat acquisitions, as those of forests, tie often; a shuffled pool breaks ties at random.
    pool = pool[rng.permutation(len(pool))]
    scores = acquisition(pool)
    for _ in range(n_rounds):
        starts = np.argsort(-scores, kind="stable")[:n_starts]
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

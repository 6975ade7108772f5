"""Small statistics shared by the benchmarks: bootstrap errors and probabilities of winning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_RESAMPLES = 1000


def win_matrix(ours: ArrayLike, theirs: ArrayLike) -> NDArray[np.float64]:
    """Who wins each pairing of runs.

    Args:
        ours: (n,) losses, smaller is better.
        theirs: (m,) losses.

    Returns:
        (n, m): 1 where ours is smaller, 1/2 at a tie, 0 else.
    """
    a, b = np.asarray(ours, dtype=float)[:, None], np.asarray(theirs, dtype=float)[None, :]
    return (a < b) + 0.5 * (a == b)


def bootstrap(
    statistic: Callable[[Sequence[NDArray[np.int64]]], ArrayLike],
    sizes: Sequence[int],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Standard error of a statistic of independent samples.

    Every sample is resampled by itself, with replacement: a benchmark passes one sample per
    task and sampler, since runs on different tasks share nothing.

    Args:
        statistic: Takes one index array per sample; returns a number or an array of fixed shape.
        sizes: Number of entries of each sample.
        n_resamples: Number of bootstrap samples.
        seed: The error is a random number too, but the same each time.

    Returns:
        Standard deviation of the statistic over the resamples, of its shape; infinite or NaN
        outcomes of the statistic make it NaN, and so does a sample of a single entry, whose
        spread is unknown.
    """
    if min(sizes) < 2:
        return np.full(np.shape(statistic([np.arange(n) for n in sizes])), np.nan)
    rng = np.random.default_rng(seed)
    outcomes = np.array(
        [statistic([rng.integers(n, size=n) for n in sizes]) for _ in range(n_resamples)],
        dtype=float,
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(outcomes.std(axis=0, ddof=1))


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """Mean of (n,) values and its standard error (NaN for fewer than two)."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return float(array.mean()), float("nan")
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array)))

"""Small statistics shared by the benchmarks: bootstrap errors and probabilities of winning.

A bootstrap resample of n runs is a row of n weights that sum to one, so that a mean over runs
becomes a product of matrices, and a thousand resamples cost one more product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_RESAMPLES = 1000


def bootstrap_weights(
    n: int, rng: np.random.Generator, *, n_resamples: int = N_RESAMPLES
) -> NDArray[np.float64]:
    """Weights of n runs in the sample itself (first row) and in its resamples.

    Independent samples (one per task and sampler, say) take independent weights; everything
    computed from the same sample takes the same ones.

    Returns:
        (1 + n_resamples, n), rows summing to one. `weights @ values` are the means.
    """
    resamples = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
    return np.vstack([np.full((1, n), 1 / n), resamples])


def estimate(outcomes: ArrayLike) -> tuple[float, float]:
    """A statistic and its bootstrap standard error.

    Args:
        outcomes: (1 + n_resamples,) the statistic under each row of the weights.

    Returns:
        The first outcome and the standard deviation of the others; that is NaN where a resample
        has no finite outcome, and 0 for a single run, whose spread is unknown.
    """
    array = np.asarray(outcomes, dtype=float)
    if not np.isfinite(array[1:]).all():
        return float(array[0]), float("nan")
    return float(array[0]), float(array[1:].std(ddof=1))


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


def mean_and_error(values: ArrayLike) -> tuple[float, float]:
    """Mean of (n,) values and its standard error (NaN for fewer than two)."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return float(array.mean()), float("nan")
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array)))


def bootstrap(
    statistic: Callable[[Sequence[NDArray[np.int64]]], ArrayLike],
    sizes: Sequence[int],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Standard error of any statistic of independent samples, one call a resample.

    `bootstrap_weights` is far faster for statistics that are made of means.

    Args:
        statistic: Takes one index array per sample; returns a number or an array of fixed shape.
        sizes: Number of entries of each sample; each is resampled by itself.
        n_resamples: Number of bootstrap samples.
        seed: The error is a random number too, but the same each time.

    Returns:
        Standard deviation of the statistic over the resamples, of its shape; NaN where an
        outcome is not finite or a sample has a single entry, whose spread is unknown.
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

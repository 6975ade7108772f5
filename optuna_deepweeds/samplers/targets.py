"""Outcomes of trials as regression targets."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri


def average_ranks(outcomes: np.ndarray) -> np.ndarray:
    """(n,) ranks from 1 (worst) to n of the rows of `outcomes`: (n, m); ties share their mean.

    Rows are compared by their first column, then the second, and so on; larger is better.
    """
    if len(outcomes) == 0:
        return np.empty(0)
    order = np.lexsort(outcomes.T[::-1])
    ordered = outcomes[order]
    starts = np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)])
    counts = np.diff(np.r_[starts, len(ordered)])
    ranks = np.empty(len(ordered))
    ranks[order] = np.repeat(starts + 0.5 * (counts + 1), counts)
    return ranks


def normal_scores(ranks: np.ndarray) -> np.ndarray:
    """(n,) standardised quantiles of the normal distribution at `ranks`: (n,) in [1, n].

    A monotone map of the objective changes nothing, so outliers and skew cannot dominate.
    """
    if len(ranks) == 0:
        return np.empty(0)
    scores = ndtri((ranks - 0.5) / len(ranks))
    spread = scores.std()
    return (scores - scores.mean()) / spread if spread > 0 else np.zeros(len(ranks))


def clipped_values(values: np.ndarray) -> np.ndarray:
    """(n,) standardised values: (n,), larger is better, with the bad tail cut off.

    Nothing counts as worse than the median by more than twice what the best is better, so that
    a wide range of bad values cannot flatten the differences between good ones. NaN and minus
    infinity take that lowest place, infinity that of the best finite value.
    """
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return np.zeros(len(values))
    best, median = float(finite.max()), float(np.median(finite))
    floor = median - 2.0 * (best - median)
    clipped = np.clip(np.nan_to_num(values, nan=floor, posinf=best, neginf=floor), floor, best)
    spread = clipped.std()
    # A spread of rounding errors would be blown up into a signal.
    if spread <= 1e-12 * max(1.0, abs(best)):
        return np.zeros(len(values))
    return (clipped - clipped.mean()) / spread

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

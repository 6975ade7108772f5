"""Where learning curves lead: a chain of trees from configurations to values, rung by rung.

Notation: r rungs; V: (n, r) what trials were worth there, NaN where none came, larger is better;
the last column holds final values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from optuna_deepweeds.samplers.forest import RegressionForest

_MAX_SAMPLES = 400
_MIN_RESULTS = 5
"""Fewest trials at a rung from which the step to it is learnt."""
_BELIEF = 4.0
"""So many trials weigh as much as the belief that a step keeps all differences as they are."""


class _Step(NamedTuple):
    """From one rung to the next: a line, and a tree for what it leaves."""

    slope: float
    start: float
    end: float
    tree: RegressionForest

    def __call__(self, X: np.ndarray, before: np.ndarray) -> np.ndarray:
        line = self.end + self.slope * (before - self.start)
        return line + self.tree.predict(np.c_[X, before])[0]


class CurveChain:
    """One draw of what configurations come to in the end, from curves of any length.

    A tree foretells the value at the first rung from the configuration; then for each rung a
    line and a tree foretell the value there from the configuration and the value before, which
    is the observed one where there is one. Trees are grown on bootstrap samples, so another
    chain is another draw, and whoever follows one does Thompson sampling. The line's slope is
    shrunk towards 1; where the order of trials changes between two rungs it falls, and early
    values lose their say. Values are those of the study, bad ones cut off, not ranks: tiny
    differences stay tiny.

    Args:
        X: (n, m) features of trials.
        V: (n, r) what they were worth, minus infinity allowed; some at the first rung.
        rng: Draws the chain.

    Attributes:
        ends: (n,) what the trials themselves come to: observed, else foretold.
    """

    def __init__(self, X: np.ndarray, V: np.ndarray, rng: np.random.Generator) -> None:
        V = np.stack([_clipped(column) for column in V.T], axis=1)
        here = ~np.isnan(V[:, 0])
        self._first = _grow(X[here], V[here, 0], rng)
        self._steps: list[_Step] = []
        self.ends = np.where(here, V[:, 0], self._first.predict(X)[0])
        for after in V.T[1:]:
            here = ~np.isnan(after)
            if here.sum() < _MIN_RESULTS:
                continue
            a, b = self.ends[here], after[here]
            centred = a - a.mean()
            belief = _BELIEF * centred.var()
            squares = centred @ centred + belief
            slope = float((centred @ b + belief) / squares) if squares > 0 else 1.0
            residual = b - b.mean() - slope * centred
            tree = _grow(np.c_[X[here], a], residual, rng)
            self._steps.append(_Step(slope, float(a.mean()), float(b.mean()), tree))
            self.ends = np.where(here, after, self._steps[-1](X, self.ends))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(m,) what configurations come to, X: their features."""
        value = self._first.predict(X)[0]
        for step in self._steps:
            value = step(X, value)
        return value


def _grow(X: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> RegressionForest:
    return RegressionForest(n_trees=1, max_samples=_MAX_SAMPLES).fit(X, y, rng)


def _clipped(values: np.ndarray) -> np.ndarray:
    """`values` at one rung, none worse than the median by more than twice what the best is better.

    A few diverged trials would decide all splits of a tree.
    """
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return 0.0 * np.nan_to_num(values, nan=np.nan, neginf=0.0)
    best, median = float(finite.max()), float(np.median(finite))
    return np.clip(values, median - 2.0 * (best - median), best)

"""A forest of randomised regression trees: mean and variance across its trees."""

from __future__ import annotations

import numpy as np
import sklearn
from sklearn.tree import ExtraTreeRegressor

VARIANCE_FLOOR = 1e-6
"""Smallest predicted variance, on the scale of standardised values."""
_MAX_FEATURES = 0.6
"""Share of the parameters tried at each split."""


class RegressionForest:
    """Bagged trees with random thresholds; the spread of their predictions is the uncertainty.

    Args:
        n_trees: Number of trees.
        min_samples_leaf: Fewest observations in a leaf.
        max_samples: Most observations that one tree is grown on.

    Source: Hutter, Hoos and Leyton-Brown 2011, "Sequential Model-Based Optimization for General
    Algorithm Configuration", section 4.1.
    """

    def __init__(
        self,
        *,
        n_trees: int = 30,
        min_samples_leaf: int = 1,
        max_samples: int | None = None,
    ) -> None:
        self._n_trees = n_trees
        self._min_samples_leaf = min_samples_leaf
        self._max_samples = max_samples
        self._trees: list[ExtraTreeRegressor] = []
        self._X = np.empty((0, 0), dtype=np.float32)
        self._y = np.empty(0)
        self._bags: list[np.ndarray] = []

    def fit(self, X: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> RegressionForest:
        """Grow the trees on X: (n, d) codes and y: (n,) values, and return the forest."""
        n = len(X)
        size = n if self._max_samples is None else min(n, self._max_samples)
        X = np.ascontiguousarray(X, dtype=np.float32)
        y = np.ascontiguousarray(y, dtype=np.float64).reshape(-1, 1)
        # One legacy generator for all trees: making one costs as much as a small tree.
        state = np.random.RandomState(rng.integers(2**32))
        self._trees, self._bags = [], []
        self._X, self._y = X, y[:, 0]
        # Our own arrays need no checks, and the checks cost as much as a small tree.
        with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
            for _ in range(self._n_trees):
                rows = rng.integers(n, size=size)
                tree = ExtraTreeRegressor(
                    max_features=_MAX_FEATURES,
                    min_samples_leaf=self._min_samples_leaf,
                    random_state=state,
                )
                self._trees.append(tree.fit(X[rows], y[rows], check_input=False))
                self._bags.append(rows)
        return self

    def out_of_bag(self, wanted: np.ndarray) -> np.ndarray:
        """(w,) expected value at some observations by the trees that were grown without them.

        Where there is none, the mean of all observations.

        Args:
            wanted: (w,) which of the observations.
        """
        X = self._X[wanted]
        total, n_trees = np.zeros(len(X)), np.zeros(len(X))
        for tree, rows in zip(self._trees, self._bags, strict=True):
            is_outside = np.ones(len(self._X), dtype=bool)
            is_outside[rows] = False
            outside = is_outside[wanted]
            total[outside] += tree.tree_.predict(X[outside])[:, 0]
            n_trees[outside] += 1.0
        return np.where(n_trees > 0, total / np.maximum(n_trees, 1.0), self._y.mean())

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the value at X: (n, d) codes; each (n,), larger is better.

        The variance is that of the trees' predictions plus the mean variance within leaves.
        """
        X = np.ascontiguousarray(X, dtype=np.float32)
        values = np.empty((len(self._trees), len(X)))
        noise = np.zeros(len(X))
        for row, tree in zip(values, self._trees, strict=True):
            if self._min_samples_leaf == 1:
                # Such leaves hold copies of one observation, or ties: no variance within.
                row[:] = tree.tree_.predict(X)[:, 0]
            else:
                leaves = tree.tree_.apply(X)
                row[:] = tree.tree_.value[leaves, 0, 0]
                noise += tree.tree_.impurity[leaves]
        variance = values.var(axis=0) + noise / len(self._trees)
        return values.mean(axis=0), np.maximum(variance, VARIANCE_FLOOR)

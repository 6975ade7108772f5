"""Which parameters of a candidate are active: declared by a space, or learnt from trials."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sklearn.tree import DecisionTreeClassifier

from optuna_deepweeds.samplers.encoding import MISSING, Encoder
from optuna_deepweeds.spaces import SearchSpace


class Conditions(Protocol):
    """Decides what is active."""

    def apply(self, X: np.ndarray) -> np.ndarray:
        """A copy of X: (n, d) full codes, with `MISSING` where a parameter is inactive."""
        ...


class DeclaredConditions:
    """The exact conditions of a `SearchSpace`."""

    def __init__(self, space: SearchSpace, encoder: Encoder) -> None:
        columns = {name: j for j, name in enumerate(encoder.names)}
        self._rules = []
        self._always_off = []
        for parameter in space.parameters:
            condition = parameter.condition
            if condition is None or parameter.name not in columns:
                continue
            child = columns[parameter.name]
            if condition.parent in columns:
                parent = columns[condition.parent]
                self._rules.append((child, parent, encoder.dimensions[parent], condition))
            else:
                # The parent has a single value and therefore no column.
                value = _single_value(space, condition.parent)
                if not condition.holds(value):
                    self._always_off.append(child)

    def apply(self, X: np.ndarray) -> np.ndarray:
        """A copy of X: (n, d) full codes, with `MISSING` where a parameter is inactive."""
        X = X.copy()
        X[:, self._always_off] = MISSING
        # Parents precede their children in a space, so a switched-off parent is seen here.
        for child, parent, dimension, condition in self._rules:
            codes, inverse = np.unique(X[:, parent], return_inverse=True)
            on = [c != MISSING and condition.holds(dimension.decode(float(c))) for c in codes]
            X[~np.array(on, dtype=bool)[inverse], child] = MISSING
        return X


def _single_value(space: SearchSpace, name: str) -> Any:
    distribution = space[name].distribution
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low


class LearntConditions:
    """Conditions read off observed configurations.

    A parameter missing from some of them is conditional; a classification tree tells its
    presence from the parameters that are missing less often. Deterministic conditions are found
    exactly once every branch has been seen.
    """

    def __init__(self, X: np.ndarray) -> None:
        absent = X == MISSING
        n_absent = absent.sum(axis=0)
        order = np.argsort(n_absent, kind="stable")
        self._rules = []
        for position, j in enumerate(order):
            if position > 0 and 0 < n_absent[j] < len(X):
                features = order[:position]
                tree = DecisionTreeClassifier(random_state=0)
                self._rules.append((j, features, tree.fit(X[:, features], ~absent[:, j])))

    def apply(self, X: np.ndarray) -> np.ndarray:
        """A copy of X: (n, d) full codes, with `MISSING` where a parameter is inactive."""
        X = X.copy()
        for j, features, tree in self._rules:
            X[~tree.predict(X[:, features]).astype(bool), j] = MISSING
        return X

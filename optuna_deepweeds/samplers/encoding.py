"""Parameters as arrays: every value becomes a code in the unit cube, and back.

Notation, used throughout this room:

| symbol | meaning                                                                     |
|--------|-----------------------------------------------------------------------------|
| n, d   | number of configurations, number of searched parameters                     |
| X      | (n, d) float64, configurations as codes; `MISSING` where a parameter is off |
| y      | (n,) float64, observed quality; larger is better                            |
| k      | number of values of a discrete parameter                                    |

A code divides the unit interval as the distribution divides its values: each of the k values of
a linear integer, a stepped float or a categorical owns 1/k of it and sits in the middle; a log
range is spread evenly on the logarithm, integers widened by a half on both sides. So uniform
codes are uniform draws and end values get their full share.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

MISSING = -1.0
"""Code of an inactive parameter: outside the unit interval, so that one split isolates it."""

CONTINUOUS_TOLERANCE = 1e-3
"""Two codes of a continuous parameter closer than about this are the same configuration."""

LARGEST_GRID = 32
"""A parameter with at most this many values is exchanged for each of them."""

_DISCRETE_TOLERANCE = 1e-9
"""Codes of snapped discrete parameters agree up to rounding errors."""


class Dimension:
    """One parameter's map between its values and codes in [0, 1].

    Attributes:
        name: The parameter's name.
        distribution: Its Optuna distribution.
        n_values: The number k of its values, or None if it is continuous.
        is_categorical: True if its codes carry no order.
    """

    def __init__(self, name: str, distribution: BaseDistribution) -> None:
        self.name = name
        self.distribution = distribution
        self.is_categorical = isinstance(distribution, CategoricalDistribution)
        self.n_values: int | None = None
        self._log = False
        if isinstance(distribution, CategoricalDistribution):
            self.n_values = len(distribution.choices)
            self._low, self._step = 0.0, 1.0
        elif isinstance(distribution, IntDistribution):
            self._low, self._step = float(distribution.low), float(distribution.step)
            self._log = distribution.log
            self.n_values = (distribution.high - distribution.low) // distribution.step + 1
        elif isinstance(distribution, FloatDistribution):
            self._low = distribution.low
            self._log = distribution.log
            if distribution.step is not None:
                self._step = distribution.step
                half_range = 0.5 * distribution.high - 0.5 * distribution.low
                self.n_values = int(round(half_range / (0.5 * distribution.step))) + 1
        else:
            raise TypeError(
                "a distribution must be a Float-, Int- or CategoricalDistribution, "
                f"but {name!r} has {distribution!r}."
            )
        if self._log:
            assert isinstance(distribution, FloatDistribution | IntDistribution)
            widening = 0.5 if isinstance(distribution, IntDistribution) else 0.0
            self._log_low = float(np.log(distribution.low - widening))
            self._log_range = float(np.log(distribution.high + widening)) - self._log_low

    @property
    def has_long_range(self) -> bool:
        """True if the parameter is ordered and has more than `LARGEST_GRID` values."""
        if self.is_categorical:
            return False
        return self.n_values is None or self.n_values > LARGEST_GRID

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """(n,) the codes of `values`, each moved to the nearer end if it lies outside the range.

        Raises:
            ValueError: A categorical value is not among the choices.
        """
        distribution = self.distribution
        if isinstance(distribution, CategoricalDistribution):
            indices = np.array([distribution.to_internal_repr(value) for value in values])
            return (indices + 0.5) / len(distribution.choices)
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        numbers = np.clip(np.array(values, dtype=float), distribution.low, distribution.high)
        if self._log:
            return (np.log(numbers) - self._log_low) / self._log_range
        half = 0.5 * numbers - 0.5 * self._low  # the whole of a large range is infinite
        if self.n_values is not None:
            return (np.rint(half / (0.5 * self._step)) + 0.5) / self.n_values
        return half / (0.5 * distribution.high - 0.5 * self._low)

    def _internal(self, codes: np.ndarray) -> np.ndarray:
        """Internal representations of `codes`: indices of choices or numbers on the grid."""
        distribution = self.distribution
        if self._log:
            assert isinstance(distribution, FloatDistribution | IntDistribution)
            values = np.exp(codes * self._log_range + self._log_low)
            if self.n_values is not None:
                values = np.rint(values)
            return np.clip(values, distribution.low, distribution.high)
        if self.n_values is not None:
            index = np.clip(np.floor(codes * self.n_values), 0, self.n_values - 1)
            return 2.0 * (0.5 * self._low + index * (0.5 * self._step))
        assert isinstance(distribution, FloatDistribution)
        values = 2.0 * (0.5 * self._low + codes * (0.5 * distribution.high - 0.5 * self._low))
        return np.clip(values, self._low, distribution.high)

    def decode(self, code: float) -> Any:
        """The value whose code is nearest to `code`, as the type that Optuna suggests."""
        distribution = self.distribution
        value = distribution.to_external_repr(float(self._internal(np.array([code]))[0]))
        if isinstance(distribution, FloatDistribution | IntDistribution):
            # A rounding error may have passed an end.
            value = min(max(value, distribution.low), distribution.high)
        return value

    def snap(self, codes: np.ndarray) -> np.ndarray:
        """`codes` moved to the codes of the values that they decode to."""
        codes = np.clip(codes, 0.0, 1.0)
        if self.n_values is None:
            return codes
        if self._log:
            return (np.log(self._internal(codes)) - self._log_low) / self._log_range
        index = np.minimum(np.floor(codes * self.n_values), self.n_values - 1)
        return (index + 0.5) / self.n_values

    def grid(self) -> np.ndarray:
        """The codes of all k values of a discrete parameter, ascending."""
        assert self.n_values is not None
        if self._log:
            values = self._low + np.arange(self.n_values)
            return (np.log(values) - self._log_low) / self._log_range
        return (np.arange(self.n_values) + 0.5) / self.n_values


class Encoder:
    """The map between configurations and rows of codes.

    Parameters with a single value are left out: Optuna never asks for them.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.dimensions = tuple(
            Dimension(name, distribution)
            for name, distribution in distributions.items()
            if not distribution.single()
        )
        self.names = tuple(dimension.name for dimension in self.dimensions)
        rng = np.random.default_rng(0)
        self._multipliers = rng.integers(2**64, size=len(self.dimensions), dtype=np.uint64) | 1

    @property
    def has_long_range(self) -> bool:
        """True if some ordered parameter has more values than can be tried one by one."""
        return any(dimension.has_long_range for dimension in self.dimensions)

    @property
    def is_smooth(self) -> bool:
        """True if every parameter is of that kind: nothing to choose, nothing to count."""
        return all(dimension.has_long_range for dimension in self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def encode(self, configurations: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """X: (n, d) codes of `configurations`; `MISSING` where a parameter is absent."""
        X = np.full((len(configurations), len(self)), MISSING)
        for j, dimension in enumerate(self.dimensions):
            having = [i for i, params in enumerate(configurations) if dimension.name in params]
            X[having, j] = dimension.encode([configurations[i][dimension.name] for i in having])
        return X

    def known_codes(self, params: Mapping[str, Any]) -> np.ndarray:
        """(d,) codes of those of `params` that are searched and possible, NaN for the others."""
        codes = np.full(len(self), np.nan)
        for j, dimension in enumerate(self.dimensions):
            if dimension.name in params:
                with contextlib.suppress(ValueError):
                    codes[j] = dimension.encode([params[dimension.name]])[0]
        return codes

    def decode(self, x: np.ndarray) -> dict[str, Any]:
        """The configuration of one row `x` of d codes, its active parameters alone."""
        return {
            dimension.name: dimension.decode(float(code))
            for dimension, code in zip(self.dimensions, x, strict=True)
            if code != MISSING
        }

    def snap(self, X: np.ndarray) -> np.ndarray:
        """A copy of X whose codes are those of real values."""
        snapped = np.empty_like(X)
        for j, dimension in enumerate(self.dimensions):
            column = X[:, j]
            snapped[:, j] = np.where(column == MISSING, MISSING, dimension.snap(column))
        return snapped

    def features(self, X: np.ndarray) -> np.ndarray:
        """(n, m) coordinates of X for models that measure distances.

        Ordered parameters keep their codes; a categorical becomes one column a choice, so that
        two choices are at distance 1. Inactive ordered parameters sit in the middle, inactive
        categoricals at the origin: where both are inactive, the parameter adds no distance.
        """
        columns: list[np.ndarray] = []
        for j, dimension in enumerate(self.dimensions):
            codes = X[:, j]
            if dimension.is_categorical:
                columns.extend(
                    (np.abs(codes - choice) < _DISCRETE_TOLERANCE) * np.sqrt(0.5)
                    for choice in dimension.grid()
                )
            else:
                columns.append(np.where(codes == MISSING, 0.5, codes))
        return np.stack(columns, axis=1) if columns else np.empty((len(X), 0))

    @property
    def feature_groups(self) -> np.ndarray:
        """(m,) the parameter, by index, that each column of `features` stands for."""
        counts = [
            d.n_values if d.is_categorical and d.n_values is not None else 1
            for d in self.dimensions
        ]
        return np.repeat(np.arange(len(counts)), counts)

    def keys(self, X: np.ndarray) -> np.ndarray:
        """(n,) uint64 keys of snapped X, equal where configurations count as the same."""
        cells = np.empty(X.shape, dtype=np.int64)
        for j, dimension in enumerate(self.dimensions):
            size = CONTINUOUS_TOLERANCE if dimension.n_values is None else _DISCRETE_TOLERANCE
            cells[:, j] = np.rint(X[:, j] / size)
        # A random linear hash modulo 2**64: far faster to sort and look up than rows, and two
        # different rows share a key once in 10**19.
        return cells.view(np.uint64) @ self._multipliers

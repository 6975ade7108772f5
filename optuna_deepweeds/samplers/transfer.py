"""Prior knowledge from other tasks: what their good configurations looked like.

Pooling values of other tasks with the target's misleads: levels, scales and noise differ. Here
each source is ranked within itself, a forest learns its shape, and the target's surrogate learns
only what that shape leaves unexplained. How much the shape counts is what its rank correlation
with the target's own results supports: one that says nothing loses its say, one that is clearly
wrong is turned around.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from optuna_deepweeds.samplers.conditions import DeclaredConditions
from optuna_deepweeds.samplers.encoding import MISSING, Encoder
from optuna_deepweeds.samplers.forest import RegressionForest
from optuna_deepweeds.samplers.targets import average_ranks, normal_scores
from optuna_deepweeds.seeds import generator
from optuna_deepweeds.spaces import SearchSpace, contains

_N_TREES = 20
_MAX_ROWS = 1000
PATIENCE = 4
"""Observations among which every other is drawn without the sources, to judge them by."""
_BELIEVED_CORRELATION = 0.7
_BELIEF = 2.0
"""So many observations weigh as much as the belief that a source correlates with the target."""
_SUREST = 0.95
"""Correlations beyond it count as it: a few equal ranks would be infinite evidence."""
_CAUTION = 0.5
"""Standard errors taken off a correlation."""
_MIN_ROWS = 3
"""Fewest rows that a source needs to be used."""


@dataclass(frozen=True)
class PriorSource:
    """Evaluations of another task, data set, metric or overlapping space.

    Attributes:
        name: Unique among the sources of one sampler.
        params: Configurations; parameters that the target lacks are ignored, those that a
            configuration lacks are imputed.
        values: One for each configuration; larger is better, any scale.
        weight: Trust before the target has been observed, from 0 (none) to 1.
    """

    name: str
    params: Sequence[Mapping[str, Any]]
    values: Sequence[float]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if len(self.params) != len(self.values):
            raise ValueError(
                "`params` and `values` must have the same length, but source "
                f"{self.name!r} has {len(self.params)} and {len(self.values)}."
            )
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError(
                f"`0 <= weight <= 1` must hold, but source {self.name!r} has {self.weight}."
            )


class PriorMean:
    """The shape of one source: larger where its configurations were better."""

    def __init__(
        self, X: np.ndarray, ranks: np.ndarray, weight: float, rng: np.random.Generator
    ) -> None:
        """Learn from X: (m, d) codes and ranks: (m,), larger is better."""
        self.weight = weight
        self.X = X
        self.y = normal_scores(ranks)
        rows = np.arange(len(X))
        if len(X) > _MAX_ROWS:
            rows = rng.choice(len(X), _MAX_ROWS, replace=False)
        forest = RegressionForest(n_trees=_N_TREES, min_samples_leaf=2)
        self._forest = forest.fit(X[rows], self.y[rows], rng)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) expected normal score at X: (n, d) within the source."""
        return self._forest.predict(X)[0]


class Transfer:
    """A weighted sum of prior means, the weights supported by the target's observations."""

    def __init__(self, sources: Sequence[PriorMean], X: np.ndarray, y: np.ndarray) -> None:
        """Weigh `sources` by X: (n, d) codes and y: (n,) normal scores of the target."""
        weights = [_weight(source, X, y) for source in sources]
        sizes = [abs(weight) for weight in weights]
        # Agreeing sources share the trust of the best of them.
        scale = max(sizes, default=0.0) / sum(sizes) if any(sizes) else 0.0
        self._parts = [
            (scale * weight, source)
            for weight, source in zip(weights, sources, strict=True)
            if weight != 0
        ]

    @property
    def is_active(self) -> bool:
        """True if any source still counts."""
        return bool(self._parts)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) prior expectation of the target's normal score at X: (n, d)."""
        total = np.zeros(len(X))
        for weight, source in self._parts:
            total += weight * source.predict(X)
        return total

    def best(self, n: int) -> np.ndarray:
        """(<= n, d) what each active source recommends most, good starts for a search."""
        rows = [
            source.X[np.argsort(-np.sign(weight) * source.y, kind="stable")[:n]]
            for weight, source in self._parts
        ]
        return np.concatenate(rows) if rows else np.empty((0, 0))


def _weight(source: PriorMean, X: np.ndarray, y: np.ndarray) -> float:
    """The share of the source's shape that the target is expected to have, in (-1, 1).

    The expected correlation between the two after n observations, from a belief in a helpful
    source; Fisher's z makes it a mean of belief and evidence. A part of a standard error is taken
    off, lest chance speaks. A source that is clearly wrong is right when turned around.
    """
    if source.weight == 0.0:
        return 0.0
    believed = np.arctanh(_BELIEVED_CORRELATION) * _BELIEF
    n = len(X)
    seen = _rank_correlation(source.predict(X), y) if n > 1 else 0.0
    z = (believed + n * np.arctanh(np.clip(seen, -_SUREST, _SUREST))) / (_BELIEF + n)
    doubt = _CAUTION / np.sqrt(n) if n else 0.0
    return float(source.weight * np.sign(z) * np.tanh(max(0.0, abs(z) - doubt)))


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's coefficient, 0 where one side is constant."""
    ranks_a, ranks_b = rankdata(a), rankdata(b)
    if ranks_a.std() == 0.0 or ranks_b.std() == 0.0:
        return 0.0
    return float(np.corrcoef(ranks_a, ranks_b)[0, 1])


@dataclass(frozen=True)
class SourceMatch:
    """What of a source could be used.

    Attributes:
        name: The source.
        n_used: Rows that became observations of the prior.
        n_dropped: Rows left out: a value outside its range, or not a finite number.
        n_imputed: Parameter values that were missing and filled in.
        ignored: Parameters of the source that the study does not have, sorted.
    """

    name: str
    n_used: int
    n_dropped: int
    n_imputed: int
    ignored: tuple[str, ...]


def match_source(
    source: PriorSource, encoder: Encoder, space: SearchSpace | None
) -> tuple[np.ndarray, np.ndarray, SourceMatch]:
    """X: (m, d) codes, ranks: (m,) of the usable rows of `source`, and what became of the rest.

    A missing active parameter takes the median of the source's other rows, or the middle of its
    range where no row has it: a constant column, on which nothing can be learnt.
    """
    distributions = {d.name: d.distribution for d in encoder.dimensions}
    constants: Mapping[str, Any] = space.constants if space is not None else {}
    known = set(distributions) | set(constants)
    rows, values = [], []
    for params, value in zip(source.params, source.values, strict=True):
        inside = all(
            contains(distributions[name], params[name]) for name in params if name in distributions
        )
        if inside and np.isfinite(value):
            rows.append(params)
            values.append(float(value))
    X = encoder.encode(rows)
    absent = X == MISSING
    with_any = np.where(absent, np.nan, X)
    for j, dimension in enumerate(encoder.dimensions):
        if absent[:, j].any():
            present = with_any[~absent[:, j], j]
            fill = float(np.median(present)) if len(present) else 0.5
            with_any[absent[:, j], j] = dimension.snap(np.array([fill]))[0]
    if space is not None:
        filled = DeclaredConditions(space, encoder).apply(with_any)
    else:
        # Without conditions, what some rows lack may be inactive there; what all lack is not.
        filled = np.where(absent & ~absent.all(axis=0), MISSING, with_any)
    match = SourceMatch(
        name=source.name,
        n_used=len(rows),
        n_dropped=len(source.params) - len(rows),
        n_imputed=int((absent & (filled != MISSING)).sum()),
        ignored=tuple(sorted({name for params in source.params for name in params} - known)),
    )
    return filled, average_ranks(np.array(values).reshape(-1, 1)), match


def summarise_sources(priors: Sequence[PriorSource], space: SearchSpace) -> list[SourceMatch]:
    """What of each source a study on `space` will use, for telling the user."""
    encoder = Encoder(space.distributions)
    return [match_source(source, encoder, space)[2] for source in priors]


class SourceReader:
    """The prior means that given sources lend a study; kept while its parameters stay the same."""

    def __init__(
        self, priors: Sequence[PriorSource], space: SearchSpace | None, seed: int
    ) -> None:
        names = [source.name for source in priors]
        if len(set(names)) < len(names):
            raise ValueError(f"prior sources must have different names, but got {names}.")
        self._priors = tuple(priors)
        self._space = space
        self._seed = seed
        self._read: tuple[Encoder, list[PriorMean]] | None = None

    def read(self, encoder: Encoder) -> list[PriorMean]:
        """The prior mean of every source with enough rows."""
        if self._read is None or self._read[0] is not encoder:
            means = []
            for source in self._priors:
                X, ranks, _ = match_source(source, encoder, self._space)
                if len(X) >= _MIN_ROWS:
                    rng = generator(self._seed, 0, "source:" + source.name)
                    means.append(PriorMean(X, ranks, source.weight, rng))
            self._read = (encoder, means)
        return self._read[1]

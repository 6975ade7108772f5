"""Prior sources brought onto the parameters of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optuna_deepweeds.samplers.conditions import DeclaredConditions
from optuna_deepweeds.samplers.encoding import MISSING, Encoder
from optuna_deepweeds.samplers.history import Observations
from optuna_deepweeds.samplers.seeding import generator
from optuna_deepweeds.samplers.targets import average_ranks
from optuna_deepweeds.samplers.transfer import MIN_ROWS, PriorMean, PriorSource
from optuna_deepweeds.spaces import SearchSpace, contains


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
    """The prior means of a study: of given sources and of prior trials within the study.

    Models are kept between calls to save time; each is a function of its rows and the seed.
    """

    def __init__(
        self, priors: Sequence[PriorSource], space: SearchSpace | None, seed: int
    ) -> None:
        names = [source.name for source in priors]
        if len(set(names)) < len(names):
            raise ValueError(f"prior sources must have different names, but got {names}.")
        self._priors = tuple(priors)
        self._space = space
        self._seed = seed
        self._models: dict[str, tuple[bytes, PriorMean]] = {}
        self._encoder: Encoder | None = None
        self._matched: list[tuple[PriorSource, np.ndarray, np.ndarray]] = []

    def read(self, seen: Observations) -> list[PriorMean]:
        """The prior mean of every source with enough rows, sorted by its kind and name."""
        if self._encoder is not seen.encoder:
            self._encoder = seen.encoder
            self._matched = [
                (source, *match_source(source, seen.encoder, self._space)[:2])
                for source in self._priors
            ]
        found = [
            self._model("source:" + source.name, X, ranks, source.weight)
            for source, X, ranks in self._matched
            if len(X) >= MIN_ROWS
        ]
        found += [
            self._model("trials:" + name, X, ranks, 1.0)
            for name, (X, ranks) in seen.priors.items()
            if len(X) >= MIN_ROWS
        ]
        return found

    def _model(self, name: str, X: np.ndarray, ranks: np.ndarray, weight: float) -> PriorMean:
        content = X.tobytes() + ranks.tobytes()
        known = self._models.get(name)
        if known is not None and known[0] == content:
            return known[1]
        model = PriorMean(X, ranks, weight, generator(self._seed, 0, name))
        self._models[name] = (content, model)
        return model

"""Recorded learning curves, the raw material of the pruner benchmark.

A `Curves` object is a table: row i is one configuration trained to the end, column e its
validation value after epoch e + 1. Three sources give one:

- a TaskSet table (`.npz` with `hyperparameters`, `names` and `valid_loss`, column 0 of which is
  the loss before training);
- a prior file of this project (`.csv`) or
- a study (`URL#STUDY`), whose complete trials carry full curves.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.spaces import SPACES

TASKSET_FLOOR = 0.5
"""exp(-loss) of a classifier that knows nothing about two equally frequent classes."""

MIN_CURVES = 10
"""Fewer full curves than this cannot tell pruners apart."""

_LOG_SPAN = 100.0


@dataclass(frozen=True, eq=False)
class Curves:
    """Learning curves of one task.

    Attributes:
        name: Name of the task.
        values: (n, T), finite; validation value after each epoch, larger is better.
        params: The n configurations; a conditional parameter may be absent.
        distributions: Distribution of every parameter that occurs.
        floor: Value whose regret is 1: that of knowing nothing (TaskSet), else the median of
            the final values, which one random configuration reaches half of the time.
    """

    name: str
    values: np.ndarray
    params: tuple[Mapping[str, Any], ...]
    distributions: Mapping[str, BaseDistribution]
    floor: float

    def __post_init__(self) -> None:
        if not self.best > self.floor:
            raise InvalidInputError(
                f"the best final value must exceed the floor of regret, but {self.name} has "
                f"{self.best:g} and {self.floor:g}."
            )

    @property
    def n_epochs(self) -> int:
        return int(self.values.shape[1])

    @property
    def best(self) -> float:
        """The best final value, which regret is measured against."""
        return float(self.values[:, -1].max())

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with any value."""
        return hashlib.sha256(np.ascontiguousarray(self.values).tobytes()).hexdigest()[:8]

    def regret(self, value: float, *, best: float | None = None) -> float:
        """(best - value) / (best - floor), limited to [0, 1].

        Args:
            value: A true value of these curves.
            best: What to measure against, if not the best final value.
        """
        best = self.best if best is None else best
        return min(1.0, max(0.0, (best - value) / (best - self.floor)))

    def top_tenth(self) -> np.ndarray:
        """(n,) bool: final value within the best tenth, rounded up."""
        n_top = math.ceil(len(self.values) / 10)
        final = self.values[:, -1]
        return np.asarray(final >= np.sort(final)[-n_top])

    def cut(self, n_epochs: int) -> Curves:
        """The curves of the first `n_epochs` epochs, as if training ended there.

        Raises:
            InvalidInputError: If the curves are shorter.
        """
        if not 2 <= n_epochs <= self.n_epochs:
            raise InvalidInputError(
                f"max-resource must be within 2 and the length of the curves, but got "
                f"{n_epochs} for the {self.n_epochs} epochs of {self.name}."
            )
        return self._with(self.values[:, :n_epochs])

    def subset(self, rows: np.ndarray) -> Curves:
        """The curves of some configurations: a table of its own, with its own best.

        Raises:
            InvalidInputError: If they do not differ at the end.
        """
        return self._with(self.values[rows], params=tuple(self.params[i] for i in rows))

    def _with(self, values: np.ndarray, **changed: Any) -> Curves:
        floor = self.floor if self.floor == TASKSET_FLOOR else float(np.median(values[:, -1]))
        return replace(self, values=values, floor=floor, **changed)

    def reported(self, *, noise: float, mislead: float, rng: np.random.Generator) -> np.ndarray:
        """(n, T): what a trial reports, which need not be its true value.

        Args:
            noise: Standard deviation of independent normal noise on every report.
            mislead: Share of the epochs, from the first, in which the order of the
                configurations is reversed: the best one shows the worst value and so on.
            rng: Source of the noise.
        """
        values = self.values.copy()
        if mislead > 0:
            for epoch in range(max(1, round(mislead * self.n_epochs))):
                order = np.argsort(values[:, epoch], kind="stable")
                values[order, epoch] = values[order[::-1], epoch]
        if noise > 0:
            values += rng.normal(0.0, noise, size=values.shape)
        return values


def load(source: str) -> Curves:
    """Load the curves that `source` names: a `.npz` or `.csv` path, or `URL#STUDY`.

    Raises:
        NotFoundError: If there is no such file or study.
        InvalidInputError: If it does not hold full learning curves.
    """
    path = Path(source)
    if "://" in source or path.suffix == ".csv":
        return _load_priors(source)
    if path.suffix != ".npz":
        raise InvalidInputError(
            f"curves must be a .npz or .csv file or URL#STUDY, but got {source!r}."
        )
    if not path.is_file():
        raise NotFoundError(f"the file of curves {source} does not exist.")
    return _load_taskset(path)


def _load_taskset(path: Path) -> Curves:
    try:
        with np.load(path, allow_pickle=False) as table:
            loss = np.asarray(table["valid_loss"], dtype=float)
            hyperparameters = np.asarray(table["hyperparameters"], dtype=float)
            names = [str(name) for name in table["names"]]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            f"a TaskSet table must hold the arrays hyperparameters, names and valid_loss, "
            f"but {path} does not: {error}."
        ) from None
    if loss.ndim != 2 or loss.shape[1] < 3 or hyperparameters.shape != (len(loss), len(names)):
        raise InvalidInputError(
            f"valid_loss must be (n, epochs + 1) and hyperparameters (n, {len(names)}), but "
            f"{path} has {loss.shape} and {hyperparameters.shape}."
        )
    loss = np.where(np.isfinite(loss), loss, np.inf)[:, 1:]
    rows = [dict(zip(names, map(float, row), strict=True)) for row in hyperparameters]
    distributions = _inferred(rows)
    return Curves(path.stem, np.exp(-loss), tuple(rows), distributions, TASKSET_FLOOR)


def _load_priors(source: str) -> Curves:
    """Curves of the trials that reported at every epoch of the longest one.

    Shorter trials and those with gaps are left out; a report that is not finite counts as the
    worst finite value of all; one at step 0 was made before training. Configurations
    that are points of one of our spaces keep its distributions and active parameters; for others
    the distributions are inferred from the values.
    """
    from optuna_deepweeds.studies.manager import read_source

    priors = [prior for prior in read_source(source) if not prior.problem]
    name = source.rpartition("#")[2] if "://" in source else Path(source).stem
    steps = max((sorted(prior.curve) for prior in priors), key=len, default=[])
    full = [prior for prior in priors if sorted(prior.curve) == steps]
    if len(full) < MIN_CURVES or len(steps) < 2:
        raise InvalidInputError(
            f"at least {MIN_CURVES} full learning curves of 2 or more epochs are needed, but "
            f"{name} has {len(full)} of {len(steps)}."
        )
    signs = [1.0 if prior.direction == "maximize" else -1.0 for prior in full]
    values = np.array(
        [[sign * prior.curve[s] for s in steps] for sign, prior in zip(signs, full, strict=True)]
    )
    is_finite = np.isfinite(values)
    if not is_finite.any():
        raise InvalidInputError(f"learning curves must hold finite values, but {name} has none.")
    values = np.where(is_finite, values, values[is_finite].min())
    params, distributions = _parameters([prior.params for prior in full])
    return Curves(name, values, params, distributions, float(np.median(values[:, -1])))


def _parameters(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[tuple[Mapping[str, Any], ...], dict[str, BaseDistribution]]:
    for space in SPACES.values():
        if all(space.problem(row) is None for row in rows):
            return tuple(space.project(row) for row in rows), space.distributions
    return tuple(dict(row) for row in rows), _inferred(rows)


def _inferred(rows: Sequence[Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """The narrowest distributions that hold the rows."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _holding([row[name] for row in rows if name in row]) for name in names}


def _holding(values: Sequence[Any]) -> BaseDistribution:
    """A distribution of the values' type, on a log scale if they span decades."""
    is_number = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if not is_number:
        return CategoricalDistribution(list(dict.fromkeys(values)))
    low, high = min(values), max(values)
    log = low > 0 and high / low >= _LOG_SPAN
    if all(isinstance(v, int) for v in values):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def unit_cube(
    params: Sequence[Mapping[str, Any]], distributions: Mapping[str, BaseDistribution]
) -> np.ndarray:
    """(n, d): numbers scaled to [0, 1] (log scale where declared), choices as one-hot columns.

    An absent parameter becomes -1 in each of its columns, outside the range of present ones.
    """
    columns = []
    for name, distribution in distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            choices = distribution.choices
            columns.append(
                [
                    [float(p[name] == c) for c in choices] if name in p else [-1.0] * len(choices)
                    for p in params
                ]
            )
            continue
        assert isinstance(distribution, (FloatDistribution, IntDistribution))
        scale: Callable[[float], float] = math.log if distribution.log else float
        low, high = scale(distribution.low), scale(distribution.high)
        span = (high - low) or 1.0
        columns.append([[(scale(p[name]) - low) / span if name in p else -1.0] for p in params])
    return np.concatenate([np.array(c, dtype=float) for c in columns], axis=1)

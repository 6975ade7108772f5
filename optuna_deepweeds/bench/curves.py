"""Recorded learning curves, the raw material of the pruner benchmark.

A `Curves` object is a table: row i is one configuration trained to the end, column e its
validation value after epoch e + 1. Five sources give one:

- the name of a generated task, see `families`;
- a table that `bench record-curves` wrote (`.npz` with `values`, `params` and `distributions`);
- a TaskSet table (`.npz` with `hyperparameters`, `names` and `valid_loss`, column 0 of which is
  the loss before training);
- a prior file of this project (`.csv`) or
- a study (`URL#STUDY`), whose complete trials carry full curves.
"""

from __future__ import annotations

import hashlib
import json
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
    distribution_to_json,
    json_to_distribution,
)

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.files import whole
from optuna_deepweeds.spaces import SPACES, SearchSpace

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
        told: (n, T) what trials report where it is not the true value.
        space: The space with its conditions, if the configurations are points of one of ours.
    """

    name: str
    values: np.ndarray
    params: tuple[Mapping[str, Any], ...]
    distributions: Mapping[str, BaseDistribution]
    floor: float
    told: np.ndarray | None = None
    space: SearchSpace | None = None

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
        """Eight hexadecimal digits that change with any value that a trial reports."""
        return hashlib.sha256(np.ascontiguousarray(self.reports).tobytes()).hexdigest()[:8]

    @property
    def reports(self) -> np.ndarray:
        """(n, T): what trials report."""
        return self.values if self.told is None else self.told

    def regret(self, value: float) -> float:
        """(best - value) / (best - floor) of a true final value, limited to [0, 1]."""
        return min(1.0, max(0.0, (self.best - value) / (self.best - self.floor)))

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
        return self._with(np.s_[:, :n_epochs])

    def subset(self, rows: np.ndarray) -> Curves:
        """The curves of some configurations: a table of its own, with its own best.

        Raises:
            InvalidInputError: If they do not differ at the end.
        """
        return self._with(rows, params=tuple(self.params[i] for i in rows))

    def _with(self, index: Any, **changed: Any) -> Curves:
        values, told = self.values[index], None if self.told is None else self.told[index]
        floor = self.floor if self.floor == TASKSET_FLOOR else float(np.median(values[:, -1]))
        return replace(self, values=values, told=told, floor=floor, **changed)

    def reported(self, noise: float, rng: np.random.Generator) -> np.ndarray:
        """(n, T): the reports with independent normal noise of this standard deviation."""
        return self.reports + rng.normal(0.0, noise, size=self.reports.shape)


def load(source: str) -> Curves:
    """Load the curves of a `.npz` or `.csv` path, or `URL#STUDY`.

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
    return _load_table(path)


def _load_table(path: Path) -> Curves:
    try:
        with np.load(path, allow_pickle=False) as table:
            if "distributions" in table:
                return _recorded(path.stem, table)
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


def _recorded(name: str, table: Mapping[str, np.ndarray]) -> Curves:
    values = np.asarray(table["values"], dtype=float)
    rows = tuple(json.loads(str(table["params"])))
    found = json.loads(str(table["distributions"]))
    distributions = {key: json_to_distribution(json.dumps(d)) for key, d in found.items()}
    if values.ndim != 2 or len(rows) != len(values) or not np.isfinite(values).all():
        raise ValueError(f"values are {values.shape} and params {len(rows)}")
    return Curves(name, values, rows, distributions, float(np.median(values[:, -1])))


def save(path: Path, curves: Curves) -> None:
    """Write a table that `load` reads; values are kept to six digits, reports are not."""
    found = {name: json.loads(distribution_to_json(d)) for name, d in curves.distributions.items()}
    with whole(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            values=curves.values.astype(np.float32),
            params=np.array(json.dumps(list(curves.params))),
            distributions=np.array(json.dumps(found)),
        )


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
    floor = float(np.median(values[:, -1]))
    rows = [prior.params for prior in full]
    for space in SPACES.values():
        if all(space.problem(row) is None for row in rows):
            params = tuple(space.project(row) for row in rows)
            return Curves(name, values, params, space.distributions, floor, space=space)
    return Curves(name, values, tuple(dict(row) for row in rows), _inferred(rows), floor)


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

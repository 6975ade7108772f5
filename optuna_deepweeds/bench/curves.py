"""Recorded learning curves, the raw material of the pruner benchmark.

A `Curves` object is a table: row i is one configuration trained to the end, column e its
validation value after epoch e + 1. Three sources give one:

- a TaskSet table (`.npz` with `hyperparameters`, `names` and `valid_loss`, column 0 of which is
  the loss before training);
- a prior file of this project (`.csv`) whose trials carry full curves;
- a study whose complete trials carry full curves (`URL#STUDY`).
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
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, NotFoundError

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
        values = self.values[:, :n_epochs]
        floor = self.floor if self.floor == TASKSET_FLOOR else float(np.median(values[:, -1]))
        return _checked(replace(self, values=values, floor=floor))

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
    if "://" in source:
        return _load_study(source)
    path = Path(source)
    loaders: dict[str, Callable[[Path], Curves]] = {".npz": _load_taskset, ".csv": _load_priors}
    if path.suffix not in loaders:
        raise InvalidInputError(
            f"curves must be a .npz or .csv file or URL#STUDY, but got {source!r}."
        )
    if not path.is_file():
        raise NotFoundError(f"no such file of learning curves: {source}.")
    return loaders[path.suffix](path)


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
    return _checked(
        Curves(
            name=path.stem,
            values=np.exp(-loss),
            params=tuple(rows),
            distributions={name: _float_distribution(rows, name) for name in names},
            floor=TASKSET_FLOOR,
        )
    )


def _load_study(source: str) -> Curves:
    url, _, name = source.partition("#")
    if not name:
        raise InvalidInputError(f"a study of curves is written URL#STUDY, but got {source!r}.")
    from optuna_deepweeds.studies import storage

    try:
        study = optuna.load_study(study_name=name, storage=storage.open_storage(url))
    except KeyError:
        raise NotFoundError(f"no study {name!r} holds learning curves at {url}.") from None
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
    return from_trials(name, trials, sign=sign)


def from_trials(name: str, trials: Sequence[FrozenTrial], *, sign: float) -> Curves:
    """Curves of complete trials that reported at every epoch 1..T, T being the longest.

    Shorter trials and trials with gaps or non-finite reports are left out, as are trials whose
    steps do not start at 1 (or, in all of them, at 0). A continued trial counts once.

    Args:
        name: Name of the task.
        trials: Complete trials of one study.
        sign: 1 if larger values are better, else -1.
    """
    lengths = [len(t.intermediate_values) for t in trials]
    n_epochs = max(lengths, default=0)
    first = min((min(t.intermediate_values) for t in trials if t.intermediate_values), default=1)
    steps = set(range(first, first + n_epochs))
    full = [t for t in trials if set(t.intermediate_values) == steps and not _is_continued(t)]
    values = np.array(
        [[sign * t.intermediate_values[step] for step in sorted(steps)] for t in full]
    ).reshape(len(full), n_epochs)
    is_finite = np.isfinite(values).all(axis=1)
    full = [t for t, finite in zip(full, is_finite, strict=True) if finite]
    distributions: dict[str, BaseDistribution] = {}
    for trial in full:
        distributions.update(trial.distributions)
    return _with_median_floor(
        name, values[is_finite], [dict(t.params) for t in full], distributions
    )


def _is_continued(trial: FrozenTrial) -> bool:
    return attributes.CONTINUED_BY in trial.system_attrs


def _load_priors(path: Path) -> Curves:
    raise InvalidInputError(f"prior files hold no curves yet: {path}.")


def _with_median_floor(
    name: str,
    values: np.ndarray,
    params: Sequence[Mapping[str, Any]],
    distributions: Mapping[str, BaseDistribution],
) -> Curves:
    n_epochs = values.shape[1] if values.ndim == 2 else 0
    if len(values) < MIN_CURVES or n_epochs < 2:
        raise InvalidInputError(
            f"at least {MIN_CURVES} full learning curves of 2 or more epochs are needed, but "
            f"{name} has {len(values)} of {n_epochs}."
        )
    floor = float(np.median(values[:, -1]))
    return _checked(Curves(name, values, tuple(params), distributions, floor))


def _checked(curves: Curves) -> Curves:
    if not curves.best > curves.floor:
        raise InvalidInputError(
            f"the best final value must exceed the floor of regret, but {curves.name} has "
            f"{curves.best:g} and {curves.floor:g}."
        )
    return curves


def _float_distribution(rows: Sequence[Mapping[str, Any]], name: str) -> FloatDistribution:
    column = [row[name] for row in rows]
    low, high = min(column), max(column)
    return FloatDistribution(low, high, log=low > 0 and high / low >= _LOG_SPAN)


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

"""Which parameters matter in a conditional space.

A random forest predicts the outcome; a parameter's importance is the share of the variance lost
on held-out trials when its values are shuffled among the trials in which it is active. An
inactive parameter is a code outside its range, so that presence alone can be learnt by the
parent. Source: Breiman 2001, "Random forests", section 10 (permutation importance), on
cross-validation folds in place of out-of-bag samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_deepweeds.report.outcomes import outcomes
from optuna_deepweeds.report.view import StudyView

MIN_TRIALS = 12
"""Fewer trials give no importance at all."""

_N_FOLDS = 4
_N_REPEATS = 3
_N_TREES = 40
_MAX_TRIALS = 1000
_INACTIVE = -1.0


@dataclass(frozen=True)
class Importance:
    """Importance of each parameter, most important first.

    Attributes:
        names: Parameters.
        means: Share of the variance of held-out outcomes that hangs on each; at least 0.
        errors: Standard error of each over the repetitions of the cross-validation.
        r2: Share of the variance that the forest explains on held-out trials.
        n_trials: Trials it rests on.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    errors: tuple[float, ...]
    r2: float
    n_trials: int


def importance(view: StudyView, *, seed: int = 0) -> Importance | None:
    """Compute parameter importance, or None with too few trials or constant outcomes."""
    found = outcomes(view)
    names = view.param_names
    if len(found) > _MAX_TRIALS:
        chosen = np.random.default_rng(seed).choice(len(found), _MAX_TRIALS, replace=False)
        found = [found[i] for i in sorted(chosen)]
    if len(found) < MIN_TRIALS or not names:
        return None
    X = np.column_stack([_codes(view, name, [o.trial.params for o in found]) for name in names])
    y = np.array([o.value for o in found])
    if np.ptp(y) == 0:
        return None
    losses, r2 = _cross_validated(X, y, seed)
    means = np.maximum(losses.mean(axis=0), 0.0)
    errors = losses.std(axis=0, ddof=1) / np.sqrt(len(losses))
    order = np.argsort(-means, kind="stable")
    return Importance(
        names=tuple(names[i] for i in order),
        means=tuple(float(means[i]) for i in order),
        errors=tuple(float(errors[i]) for i in order),
        r2=r2,
        n_trials=len(found),
    )


def _cross_validated(
    X: NDArray[np.float64], y: NDArray[np.float64], seed: int
) -> tuple[NDArray[np.float64], float]:
    """(n_repeats, n_params) lost shares of variance, and R2 over all held-out trials."""
    from sklearn.ensemble import RandomForestRegressor

    losses = np.zeros((_N_REPEATS, X.shape[1]))
    errors = []
    for repeat in range(_N_REPEATS):
        generator = np.random.default_rng(np.random.SeedSequence([seed, repeat]))
        folds = np.array_split(generator.permutation(len(y)), _N_FOLDS)
        for test in folds:
            train = np.setdiff1d(np.arange(len(y)), test)
            forest = RandomForestRegressor(
                n_estimators=_N_TREES, min_samples_leaf=2, max_features=0.8, n_jobs=1,
                random_state=int(generator.integers(2**31)),
            ).fit(X[train], y[train])  # fmt: skip
            # One call for all shuffled copies: a forest's call costs more than its rows.
            copies = np.repeat(X[test][None], X.shape[1] + 1, axis=0)
            for j in range(X.shape[1]):
                active = np.flatnonzero(X[test, j] != _INACTIVE)
                copies[j + 1, active, j] = copies[j + 1, generator.permutation(active), j]
            predicted = forest.predict(copies.reshape(-1, X.shape[1])).reshape(-1, len(test))
            squared = ((predicted - y[test]) ** 2).sum(axis=1)
            errors.append(squared[0])
            losses[repeat] += squared[1:] - squared[0]
    total = ((y - y.mean()) ** 2).sum()
    return losses / total, float(1.0 - sum(errors) / (_N_REPEATS * total))


def _codes(view: StudyView, name: str, params: list[dict[str, object]]) -> NDArray[np.float64]:
    """(n,) values of parameter `name` from 0 to 1; -1 where it is inactive."""
    distribution = distribution_of(view, name)
    return np.array(
        [unit(distribution, row[name]) if name in row else _INACTIVE for row in params]
    )


def distribution_of(view: StudyView, name: str) -> BaseDistribution:
    """The distribution of parameter `name`: the space's, else that of the first trial with it."""
    if view.space is not None and name in view.space.distributions:
        return view.space[name].distribution
    return next(t.distributions[name] for t in view.trials if name in t.distributions)


def unit(distribution: BaseDistribution, value: object) -> float:
    """`value` on its range from 0 to 1, logarithmically where the distribution is."""
    if isinstance(distribution, CategoricalDistribution):
        index = distribution.to_internal_repr(value)  # type: ignore[arg-type]
        return index / max(len(distribution.choices) - 1, 1)
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    low, high, x = float(distribution.low), float(distribution.high), float(value)  # type: ignore[arg-type]
    if distribution.log:
        low, high, x = np.log(low), np.log(high), np.log(x)
    return float(np.clip((x - low) / (high - low), 0.0, 1.0)) if high > low else 0.5

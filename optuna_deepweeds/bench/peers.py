"""The pruners that are compared, those that Optuna does not have included.

Names and what they stand for are in `PEERS`. `NAME:key=value,key=value` passes options to our
own pruners, for instance `dora:min_resource=2`.
"""

from __future__ import annotations

import ast
import bisect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.bench.curves import unit_cube
from optuna_deepweeds.errors import InvalidInputError

PEERS = {
    "none": "no pruning",
    "median": "Optuna's median rule",
    "hyperband": "Optuna's Hyperband, reduction 3",
    "asha-default": "Optuna's SuccessiveHalving as it comes: reduction 4, min_resource auto",
    "asha-3-1": "Optuna's SuccessiveHalving, reduction 3, min_resource 1",
    "dora-published": "forest on parameters, epoch and time; stops what it sees beating nothing",
    "promotion-3": "promotion-type ASHA, reduction 3 (pauses and continues)",
    "promotion-4": "promotion-type ASHA, reduction 4 (pauses and continues)",
    "dora": "anticipation, stopping only",
    "dora-thaw": "anticipation, stopping and continuing",
}

ASHA = ("asha-default", "asha-3-1")
"""The two settings of SuccessiveHalving, the better of which others are compared with."""


OWN = ("dora", "dora-thaw")
"""Our own pruners, which take options and curves of earlier studies."""


def takes_prior_curves(name: str) -> bool:
    """Whether the pruner called `name` can be given curves of earlier studies."""
    return parse(name)[0] in OWN


def make_peer(
    name: str, *, max_resource: int, seed: int, prior: Mapping[str, Any] | None = None
) -> BasePruner:
    """A fresh pruner of that name for trials of `max_resource` epochs.

    Args:
        name: One of `PEERS`, with options if any.
        max_resource: Epochs of a full training.
        seed: Of the pruner.
        prior: Arguments of `DoraPruner` with curves of earlier studies; only for `OWN`.

    Raises:
        InvalidInputError: If the name is unknown or its options are not `key=value`.
    """
    base, options = parse(name)
    if base in OWN:
        from optuna_deepweeds.pruners import make_pruner

        options |= {"thaw": base == "dora-thaw", **(prior or {})}
        try:
            return make_pruner("dora", max_resource=max_resource, **options)
        except TypeError as error:
            raise InvalidInputError(f"{name}: {error}.") from None
    if options:
        raise InvalidInputError(f"only dora and dora-thaw take options, but got {name!r}.")
    match base:
        case "none":
            return optuna.pruners.NopPruner()
        case "median":
            return optuna.pruners.MedianPruner()
        case "hyperband":
            return optuna.pruners.HyperbandPruner(max_resource=max_resource)
        case "asha-default":
            return optuna.pruners.SuccessiveHalvingPruner()
        case "asha-3-1":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
        case "dora-published":
            return PublishedDoraPruner(max_resource=max_resource, seed=seed)
        case "promotion-3" | "promotion-4":
            return PromotionPruner(max_resource=max_resource, reduction_factor=int(base[-1]))
    raise AssertionError(f"unhandled peer {base!r}")


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """Split `NAME:key=value,...` into the name and its options (Python literals or words).

    Raises:
        InvalidInputError: If the name is unknown or an option is not `key=value`.
    """
    base, _, rest = name.partition(":")
    if base not in PEERS:
        raise InvalidInputError(f"a pruner must be one of {', '.join(PEERS)}, but got {base!r}.")
    options: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key.isidentifier():
            raise InvalidInputError(f"an option must be key=value, but got {item!r} in {name!r}.")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return base, options


class PromotionPruner(BasePruner):
    """Asynchronous successive halving that pauses at every rung and promotes later.

    A trial always pauses at a rung. A free worker continues the best paused trial that is within
    the top 1/reduction of all values ever seen at its rung, looking from the highest rung down,
    and starts a new configuration when there is none.

    What was seen lies in the object, which therefore serves one study in one process: enough for
    a replay.

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (2020), algorithm 2.
    """

    def __init__(self, *, max_resource: int, reduction_factor: int, min_resource: int = 1) -> None:
        self._reduction_factor = reduction_factor
        self._promoted: set[int] = set()
        # For each rung (badness, number of the paused trial), best first; the earlier of two
        # equal trials goes first.
        self._rungs: dict[int, list[tuple[float, int]]] = {}
        rung = min_resource
        while rung < max_resource:
            self._rungs[rung] = []
            rung *= reduction_factor

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step not in self._rungs:
            return False
        sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        value = trial.intermediate_values[step]
        badness = math.inf if math.isnan(value) else -sign * value
        bisect.insort(self._rungs[step], (badness, trial.number))
        return True

    def next_continuation(self, study: optuna.Study) -> FrozenTrial | None:
        """The paused trial to promote now, if any; it counts as promoted from now on."""
        for seen in reversed(self._rungs.values()):
            for _, number in seen[: len(seen) // self._reduction_factor]:
                if number not in self._promoted:
                    self._promoted.add(number)
                    return study.get_trials(deepcopy=False)[number]
        return None


class PublishedDoraPruner(BasePruner):
    """The published DORA rule, as far as its text tells.

    A random forest on parameters, epoch and elapsed training time predicts the value at every
    later epoch; a trial none of whose predictions beats the best value of a finished trial is
    stopped. In a replay every epoch takes one unit, so that time repeats the epoch. The forest
    is fitted anew whenever the number of reports has grown by a tenth.
    """

    def __init__(
        self, *, max_resource: int, seed: int, n_trees: int = 30, n_startup_trials: int = 3
    ) -> None:
        self._max_resource = max_resource
        self._seed = seed
        self._n_trees = n_trees
        self._n_startup_trials = n_startup_trials
        self._forest: Any = None
        self._n_fitted = 0

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step >= self._max_resource:
            return False
        sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        trials = study.get_trials(deepcopy=False)
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        if len(complete) < self._n_startup_trials:
            return False
        incumbent = max(sign * t.values[0] for t in complete)
        self._fit([t for t in trials if t.state.is_finished()], sign)
        later = np.arange(step + 1, self._max_resource + 1)
        point = unit_cube([trial.params], trial.distributions)
        X = _features(np.repeat(point, len(later), axis=0), later)
        # The trees themselves are asked: the forest's own checks cost ten times as much.
        predicted = np.mean([tree.tree_.predict(X) for tree in self._forest.estimators_], axis=0)
        return bool(predicted.max() < incumbent)

    def _fit(self, trials: list[FrozenTrial], sign: float) -> None:
        n_reports = sum(len(t.intermediate_values) for t in trials)
        if n_reports < 1.1 * self._n_fitted:
            return
        from sklearn.ensemble import RandomForestRegressor

        points = unit_cube([t.params for t in trials], trials[0].distributions)
        lengths = [len(t.intermediate_values) for t in trials]
        steps = np.array([step for t in trials for step in t.intermediate_values])
        y = np.array([sign * v for t in trials for v in t.intermediate_values.values()])
        is_finite = np.isfinite(y)
        X = _features(np.repeat(points, lengths, axis=0), steps)
        self._forest = RandomForestRegressor(self._n_trees, random_state=self._seed)
        self._forest.fit(X[is_finite], y[is_finite])
        self._n_fitted = n_reports


def _features(points: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(n, d + 2): parameters, epoch, elapsed time in epochs."""
    return np.column_stack([points, steps, steps]).astype(np.float32)

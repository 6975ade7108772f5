"""Samplers and pruners that ours are compared with and that Optuna does not have."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.special import logsumexp

from optuna_deepweeds.bench.curves import unit_cube
from optuna_deepweeds.seeds import generator
from optuna_deepweeds.trials import sign

_MIN_BANDWIDTH = 0.03
_N_CANDIDATES = 24
_GOOD_SHARE = 0.15
_RANDOM_SHARE = 1 / 3


class DensityRatioSampler(RandomSampler):
    """BOHB's model, choosing among given configurations; elsewhere it draws at random.

    It learns from the highest epoch that at least d + 3 configurations have reached, d being the
    number of parameters: of candidates drawn by the density of the good ones it takes that with
    the highest ratio to the density of the others. One choice in three is random.

    Source: Falkner et al., BOHB (2018), section 3.2, with the defaults of its implementation
    but for the candidates, which there are points of the space.
    """

    def __init__(self, *, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed
        self._codes: dict[int, tuple[Mapping[str, Any], np.ndarray]] = {}
        self._names: list[str] = []

    def suggest_among(
        self, study: optuna.Study, trial: FrozenTrial, candidates: Sequence[Mapping[str, Any]]
    ) -> int:
        """The index of the chosen candidate."""
        rng = generator(self._seed, trial.number, "density ratio")
        reports: dict[tuple[Any, ...], FrozenTrial] = {}
        for other in study.get_trials(deepcopy=False):
            if other.intermediate_values:  # of a continued trial the last spell stays
                reports[tuple(other.params.items())] = other
        seen = list(reports.values())
        epochs = sorted((t.last_step or 0 for t in seen), reverse=True)
        space = {name: d for t in seen for name, d in t.distributions.items()}
        n_needed = len(space) + 3
        if len(seen) < n_needed or rng.random() < _RANDOM_SHARE:
            return int(rng.integers(len(candidates)))
        epoch = epochs[n_needed - 1]
        # A trial is asked about the first report from there on, as reports may have gaps.
        at = [[s for s in t.intermediate_values if s >= epoch] for t in seen]
        told = [(t.intermediate_values[min(s)], t) for t, s in zip(seen, at, strict=True) if s]
        values = np.nan_to_num([sign(study.direction) * v for v, _ in told], nan=-np.inf)
        points = unit_cube([t.params for _, t in told], space)
        points = points[np.argsort(-values, kind="stable")]
        n_least = len(space) + 1
        n_good = max(n_least, math.ceil(_GOOD_SHARE * len(points)))
        rows = self._encoded(candidates, space)
        good = _log_density(rows, points[:n_good])
        drawn = np.argsort(-(good + rng.gumbel(size=len(rows))))[:_N_CANDIDATES]
        others = points[min(n_good, len(points) - n_least) :]
        ratio = good[drawn] - _log_density(rows[drawn], others)
        return int(drawn[np.argmax(ratio)])

    def _encoded(self, rows: Sequence[Mapping[str, Any]], space: Mapping[str, Any]) -> np.ndarray:
        """(m, d) codes; a table offers the same rows again and again."""
        if self._names != list(space):  # One more, which few configurations have.
            self._names, self._codes = list(space), {}
        if new := [row for row in rows if id(row) not in self._codes]:
            codes = unit_cube(new, space)
            self._codes |= {id(row): (row, x) for row, x in zip(new, codes, strict=True)}
        return np.array([self._codes[id(row)][1] for row in rows])


def _log_density(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(m,): mean over (n, d) points of a product of normal kernels, at (m, d) rows."""
    n, d = points.shape
    width = np.maximum(1.06 * points.std(axis=0) * n ** (-1 / (4 + d)), _MIN_BANDWIDTH)
    squares = sum(np.square((rows[:, None, j] - points[None, :, j]) / width[j]) for j in range(d))
    return np.asarray(logsumexp(-0.5 * squares, axis=1) - math.log(n) - np.log(width).sum())


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
        value = trial.intermediate_values[step]
        badness = math.inf if math.isnan(value) else -sign(study.direction) * value
        bisect.insort(self._rungs[step], (badness, trial.number))
        return True

    def next_continuation(
        self, study: optuna.Study, *, is_closing: bool = False
    ) -> FrozenTrial | None:
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
        better = sign(study.direction)
        trials = study.get_trials(deepcopy=False)
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        if len(complete) < self._n_startup_trials:
            return False
        incumbent = max(better * t.values[0] for t in complete)
        self._fit([t for t in trials if t.state.is_finished()], better)
        later = np.arange(step + 1, self._max_resource + 1)
        point = unit_cube([trial.params], trial.distributions)
        X = _features(np.repeat(point, len(later), axis=0), later)
        # The trees themselves are asked: the forest's own checks cost ten times as much.
        predicted = np.mean([tree.tree_.predict(X) for tree in self._forest.estimators_], axis=0)
        return bool(predicted.max() < incumbent)

    def _fit(self, trials: list[FrozenTrial], better: float) -> None:
        n_reports = sum(len(t.intermediate_values) for t in trials)
        if n_reports < 1.1 * self._n_fitted:
            return
        from sklearn.ensemble import RandomForestRegressor

        points = unit_cube([t.params for t in trials], trials[0].distributions)
        lengths = [len(t.intermediate_values) for t in trials]
        steps = np.array([step for t in trials for step in t.intermediate_values])
        y = np.array([better * v for t in trials for v in t.intermediate_values.values()])
        is_finite = np.isfinite(y)
        X = _features(np.repeat(points, lengths, axis=0), steps)
        self._forest = RandomForestRegressor(self._n_trees, random_state=self._seed)
        self._forest.fit(X[is_finite], y[is_finite])
        self._n_fitted = n_reports


def _features(points: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(n, d + 2): parameters, epoch, elapsed time in epochs."""
    return np.column_stack([points, steps, steps]).astype(np.float32)

"""Bayesian optimisation over the trials of a study, for any surrogate."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from optuna_deepweeds.attributes import SUGGESTED
from optuna_deepweeds.samplers.acquisition import (
    CandidateSpace,
    log_expected_improvement,
    maximise,
)
from optuna_deepweeds.samplers.chain import CurveChain
from optuna_deepweeds.samplers.conditions import (
    Conditions,
    DeclaredConditions,
    LearntConditions,
)
from optuna_deepweeds.samplers.encoding import MISSING, Dimension, Encoder
from optuna_deepweeds.samplers.history import History, Observations
from optuna_deepweeds.samplers.seeding import root_seed, single_threaded
from optuna_deepweeds.samplers.targets import normal_scores
from optuna_deepweeds.samplers.transfer import (
    PATIENCE,
    PriorMean,
    PriorSource,
    SourceReader,
    Transfer,
)
from optuna_deepweeds.schema import require_whole
from optuna_deepweeds.seeds import generator
from optuna_deepweeds.spaces import SearchSpace

_N_BEST, _N_OTHERS = 300, 700
"""Observations kept for the surrogate once there are more: the best, and a draw of the rest."""

_N_STARTS = 10
"""Good observations from which the search for the next configuration starts."""

_PROBES = 1 / 8
"""Share of suggestions that ask not to be stopped early, where a pruner stops trials."""

_N_INCUMBENTS = 200
"""Good observations among which the one with the best predicted mean is the incumbent."""


class Surrogate(Protocol):
    """A model of the target."""

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance, (n,) each, at X: (n, d) codes; larger means are better."""
        ...


class OnFeatures:
    """A surrogate of features, on codes."""

    def __init__(self, encoder: Encoder, surrogate: Surrogate) -> None:
        self._encoder = encoder
        self._surrogate = surrogate

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance, (n,) each, at X: (n, d) codes."""
        return self._surrogate.predict(self._encoder.features(X))


class _Search(NamedTuple):
    """What a suggestion is chosen by: uniformly where there is no acquisition."""

    space: CandidateSpace
    starts: np.ndarray
    acquisition: Callable[[np.ndarray], np.ndarray] | None
    reason: str

    def best(self, taken: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(d,) the codes of the best configuration found that is not among the keys `taken`."""
        if self.acquisition is None:
            flat = lambda points: np.zeros(len(points))  # noqa: E731
            return maximise(flat, self.space, self.starts, taken, rng, n_rounds=0)
        return maximise(self.acquisition, self.space, self.starts, taken, rng)


def _mark(study: Study, trial: FrozenTrial, reason: str) -> None:
    study._storage.set_trial_user_attr(trial._trial_id, SUGGESTED, reason)


class ModelBasedSampler(BaseSampler, abc.ABC):
    """Suggests the configuration with the largest log expected improvement of a surrogate.

    What decides when: `n_startup_trials` are drawn. Then the surrogate of the final values does,
    as long as every trial is trained to its end. Once a pruner has stopped one, a chain of trees
    through the curves of all trials, whatever their lengths, decides in its place (`CurveChain`):
    it is drawn anew for each suggestion, which is what it foretells best. One in eight of these
    asks its pruner to be let go on for a while whatever its rank (`attributes.SUGGESTED`), since
    else nothing would be learnt of what starts badly. Prior sources speak through all of it.

    A decision is a function of the seed, the trial's number and the study's trials alone, so an
    interrupted and resumed study goes on as if nothing had happened. Running trials are imputed
    by the prediction and never suggested again; nor is any finished configuration.

    Subclasses say how the surrogate is fitted.

    Args:
        seed: Makes the study reproducible across processes and interruptions; not with
            `n_jobs > 1`.
        n_startup_trials: Random trials before the first model, unless priors give one.
        space: The searched space with its exact conditions; without it, which parameters are
            conditional is learnt from the trials.
        priors: Evaluations of other tasks, or earlier ones of the same task.
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
        space: SearchSpace | None = None,
        priors: Sequence[PriorSource] = (),
    ) -> None:
        require_whole("n_startup_trials", n_startup_trials, at_least=0)
        self._seed = root_seed(seed)
        self._n_startup_trials = n_startup_trials
        self._space = space
        self._history = History(space)
        self._sources = SourceReader(priors, space, self._seed)

    _follows_curves = True
    """Whether trials that were stopped are learnt from by their curves."""

    @abc.abstractmethod
    def _fit(
        self, seen: Observations, X: np.ndarray, y: np.ndarray, rng: np.random.Generator
    ) -> Surrogate:
        """Fit the surrogate to X: (n, d) codes and y: (n,) targets less the prior expectation,
        drawn from what was seen."""

    def _targets(self, seen: Observations) -> np.ndarray:
        """(n,) what the surrogate is to predict at the observations, standardised."""
        return normal_scores(seen.ranks)

    def reseed_rng(self) -> None:
        """Continue with fresh entropy; Optuna calls it for `n_jobs > 1`, which ends
        reproducibility. Scale with processes to keep it."""
        self._seed = root_seed(None)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every parameter that the space declares or a finished trial has had."""
        self._raise_error_if_multi_objective(study)
        return self._history.distributions(study)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A full configuration, or nothing while the startup trials last."""
        self._raise_error_if_multi_objective(study)
        if not search_space:
            _mark(study, trial, "start")
            return {}
        seen = self._history.read(study, trial, search_space)
        rng = generator(self._seed, trial.number, "relative")
        sources = self._sources.read(seen.encoder)
        if len(seen.X) < self._n_startup_trials and not sources:
            _mark(study, trial, "start")
            return {}
        with single_threaded():
            search = self._search(seen, sources, rng)
            taken = search.space.keys(np.concatenate([seen.X, seen.pending]))
            x = search.best(taken, rng)
        _mark(study, trial, search.reason)
        return self._fill(seen.encoder, x, rng)

    def suggest_among(
        self, study: Study, trial: FrozenTrial, candidates: Sequence[Mapping[str, Any]]
    ) -> int:
        """The index of the candidate that a suggestion would be, were there no others.

        Args:
            study: The study.
            trial: The running trial that asks.
            candidates: Configurations, none of which has been tried.
        """
        self._raise_error_if_multi_objective(study)
        rng = generator(self._seed, trial.number, "relative")
        seen = self._history.read(study, trial, self._history.distributions(study))
        sources = self._sources.read(seen.encoder)
        reason, scores = "start", np.zeros(len(candidates))
        if len(seen.X) >= self._n_startup_trials or sources:
            with single_threaded():
                search = self._search(seen, sources, rng)
                reason = search.reason
                if search.acquisition is not None:
                    scores = search.acquisition(seen.encoder.encode(candidates))
        _mark(study, trial, reason)
        return int(rng.choice(np.flatnonzero(scores == scores.max())))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A uniform draw, for startup trials and parameters never seen before."""
        self._raise_error_if_multi_objective(study)
        dimension = Dimension(param_name, param_distribution)
        rng = generator(self._seed, trial.number, param_name)
        return dimension.decode(float(rng.random()))

    def _search(
        self, seen: Observations, sources: Sequence[PriorMean], rng: np.random.Generator
    ) -> _Search:
        """What the next configuration is chosen by."""
        conditions: Conditions
        if self._space is not None:
            conditions = DeclaredConditions(self._space, seen.encoder)
        else:
            references = [seen.X, *(source.X for source in sources)]
            conditions = LearntConditions(np.concatenate(references))
        space = CandidateSpace(seen.encoder, conditions, seen.fixed)
        scores = normal_scores(seen.ranks)
        transfer = Transfer(sources, seen.X, scores)

        rows = _subsample(scores, rng)
        X = seen.X[rows]
        best = X[np.argsort(-scores[rows], kind="stable")[:_N_INCUMBENTS]]
        starts = best[:_N_STARTS]
        if transfer.is_active:
            starts = np.concatenate([starts, transfer.best(5)])
        # Until the sources are judged, every other suggestion is drawn without them: only against
        # such draws shows whether what they recommend is any good.
        n = seen.n_suggested
        is_control = bool(sources) and n < PATIENCE and n % 2 == 1
        if is_control or (len(X) == 0 and not transfer.is_active):
            return _Search(space, X, None, "start")
        if len(X) < 2:
            return _Search(space, starts, transfer.predict, "model")
        if seen.n_stopped and self._follows_curves:
            return self._search_by_curves(seen, space, transfer, rng)

        residual = self._targets(seen)[rows] - transfer.predict(X)
        surrogate = self._fit_with_pending(seen, X, residual, rng)
        incumbent = float((surrogate.predict(best)[0] + transfer.predict(best)).max())

        def acquisition(points: np.ndarray) -> np.ndarray:
            mean, variance = surrogate.predict(points)
            mean = mean + transfer.predict(points)
            return log_expected_improvement(mean, np.sqrt(variance), incumbent)

        return _Search(space, starts, acquisition, "model")

    def _search_by_curves(
        self,
        seen: Observations,
        space: CandidateSpace,
        transfer: Transfer,
        rng: np.random.Generator,
    ) -> _Search:
        """A draw from the chain of trees through curves."""

        def features(points: np.ndarray) -> np.ndarray:
            return np.c_[points, transfer.predict(points)] if transfer.is_active else points

        X = np.concatenate([seen.X, seen.pending])
        V = np.concatenate([seen.curves, seen.pending_curves])
        has_any = ~np.isnan(V).all(axis=1)
        X, V = X[has_any], V[has_any]
        chain = CurveChain(features(X), V, rng)
        starts = X[np.argsort(-chain.ends, kind="stable")[:_N_STARTS]]
        reason = "probe" if rng.random() < _PROBES else "model"
        return _Search(space, starts, lambda points: chain.predict(features(points)), reason)

    def _fit_with_pending(
        self, seen: Observations, X: np.ndarray, residual: np.ndarray, rng: np.random.Generator
    ) -> Surrogate:
        """The surrogate, after imputing running trials by its own prediction."""
        surrogate = self._fit(seen, X, residual, rng)
        if len(seen.pending) == 0:
            return surrogate
        imputed, _ = surrogate.predict(seen.pending)
        X = np.concatenate([X, seen.pending])
        return self._fit(seen, X, np.concatenate([residual, imputed]), rng)

    def _fill(self, encoder: Encoder, x: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        """The configuration of `x`; where presence is only learnt, a draw for the rest as well.

        Optuna drops what the objective does not ask for.
        """
        if self._space is None:
            x = np.where(x == MISSING, rng.random(len(x)), x)
        return encoder.decode(x)


def _subsample(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows for the surrogate: all, or the best and a draw of the others."""
    if len(scores) <= _N_BEST + _N_OTHERS:
        return np.arange(len(scores))
    order = np.argsort(-scores, kind="stable")
    others = rng.choice(order[_N_BEST:], _N_OTHERS, replace=False)
    return np.concatenate([order[:_N_BEST], others])

"""Optuna's own samplers, made reproducible across interruptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.samplers.seeding import root_seed
from optuna_deepweeds.seeds import derive

_MAX_OPEN = 1000


class PerTrialSampler(BaseSampler):
    """A fresh sampler of Optuna's for every trial, seeded by the seed and the trial's number.

    Optuna does not store a sampler's random state, so a resumed seeded study would repeat its
    earlier draws. Nothing is carried from trial to trial here, hence nothing can be lost.

    Args:
        create: Makes a sampler from its keyword argument `seed`.
        seed: Of the study; None takes fresh entropy.
    """

    def __init__(self, create: Callable[..., BaseSampler], *, seed: int | None = None) -> None:
        self._create = create
        self._seed = root_seed(seed)
        self._open: dict[int, BaseSampler] = {}

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        sampler = self._open.get(trial.number)
        if sampler is None:
            if len(self._open) >= _MAX_OPEN:
                # Trials that were asked for and never told.
                self._open.pop(next(iter(self._open)), None)
            sampler = self._create(seed=derive(self._seed, trial.number))
            self._open[trial.number] = sampler
        return sampler

    def reseed_rng(self) -> None:
        """Continue with fresh entropy, which ends reproducibility."""
        self._seed = root_seed(None)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As the wrapped sampler."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the wrapped sampler."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As the wrapped sampler."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Start the trial's own sampler."""
        # A study of the same sampler may have had a trial of this number.
        self._open.pop(trial.number, None)
        self._of(trial).before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let the wrapped sampler finish and forget it."""
        self._of(trial).after_trial(study, trial, state, values)
        self._open.pop(trial.number, None)

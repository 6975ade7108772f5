"""The sampler of random forests and expected improvement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optuna_deepweeds.samplers.blend import Blend, earned_weights
from optuna_deepweeds.samplers.forest import RegressionForest
from optuna_deepweeds.samplers.gaussian_process import (
    MAX_FIT,
    GaussianProcess,
    Kernel,
    fit_kernel,
    representatives,
)
from optuna_deepweeds.samplers.history import AtMilestones, Observations
from optuna_deepweeds.samplers.model_based import ModelBasedSampler, OnFeatures, Surrogate
from optuna_deepweeds.samplers.targets import clipped_values, normal_scores
from optuna_deepweeds.samplers.transfer import PriorSource
from optuna_deepweeds.schema import require_whole
from optuna_deepweeds.spaces import SearchSpace

_MAX_SAMPLES = 400


class RandomForestEISampler(ModelBasedSampler):
    """Bayesian optimisation with a random forest, for any single-objective study.

    Strong where budgets are small and spaces mixed, discrete or conditional. A Gaussian process
    has a say beside the forest, as large as its foresight earns: both foretell each observation
    from the others, the forest out of bag and the process leaving it out, and weights follow the
    errors. The forest takes cliffs, categories and conditions, the process what is smooth. In
    spaces with continuous parameters or integer ranges too long to try one by one, every other
    suggestion is the process's alone, on values in place of ranks, since ranks bend what is
    smooth; three of four where all parameters are of that kind. It goes alone as long as it is
    conditioned on every observation. In studies that stop trials early, see `ModelBasedSampler`.

    Args:
        seed, n_startup_trials, space, priors: See `ModelBasedSampler`.
        n_trees: Trees of the forest.

    Source: Hutter, Hoos and Leyton-Brown 2011 (SMAC), with normal scores as targets and without
    configurations that have been evaluated.
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
        space: SearchSpace | None = None,
        priors: Sequence[PriorSource] = (),
        n_trees: int = 20,
    ) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials, space=space, priors=priors)
        require_whole("n_trees", n_trees, at_least=1)
        self._n_trees = n_trees
        self._kernels = {of_values: AtMilestones[Kernel]() for of_values in (False, True)}

    def _is_smooth_turn(self, seen: Observations) -> bool:
        if not seen.encoder.has_long_range:
            return False
        return seen.turn % 2 == 1 or (seen.encoder.is_smooth and seen.turn % 4 == 2)

    def _targets(self, seen: Observations) -> np.ndarray:
        if self._is_smooth_turn(seen):
            values = clipped_values(seen.values)
            if values.any():
                return values
        return super()._targets(seen)

    def _fit(
        self, seen: Observations, X: np.ndarray, y: np.ndarray, rng: np.random.Generator
    ) -> Surrogate:
        if len(seen.X) < 2:
            return self._forest(X, y, rng)
        is_smooth_turn = self._is_smooth_turn(seen)
        kernel = self._kernel(seen, of_values=is_smooth_turn)
        process = GaussianProcess(seen.encoder.features(X), y, kernel)
        smooth = OnFeatures(seen.encoder, process)
        if is_smooth_turn and len(process.rows) == len(X):
            return smooth
        # A process that has not seen everything never goes alone: the forest has.
        forest = self._forest(X, y, rng)
        foretold = (forest.out_of_bag(process.rows), process.leave_one_out())
        return Blend((forest, smooth), earned_weights(foretold, y[process.rows]))

    def _forest(self, X: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> RegressionForest:
        return RegressionForest(n_trees=self._n_trees, max_samples=_MAX_SAMPLES).fit(X, y, rng)

    def _kernel(self, seen: Observations, *, of_values: bool) -> Kernel:
        """The kernel of the process, for clipped values or for normal scores."""

        def fit(X: np.ndarray, ranks: np.ndarray, values: np.ndarray) -> Kernel:
            F = seen.encoder.features(X)
            rows = representatives(F, ranks, MAX_FIT)
            y = clipped_values(values[rows]) if of_values else normal_scores(ranks)[rows]
            return fit_kernel(F[rows], y - y.mean(), seen.encoder.feature_groups)

        return self._kernels[of_values].get(seen, fit)

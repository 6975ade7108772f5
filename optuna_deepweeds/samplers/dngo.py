"""The sampler of neural networks with a Bayesian linear head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optuna_deepweeds.samplers.encoding import Encoder
from optuna_deepweeds.samplers.history import Observations
from optuna_deepweeds.samplers.milestones import milestone
from optuna_deepweeds.samplers.model_based import ModelBasedSampler, Surrogate
from optuna_deepweeds.samplers.network_surrogate import NetworkSurrogate
from optuna_deepweeds.samplers.seeding import generator
from optuna_deepweeds.samplers.targets import average_ranks, normal_scores
from optuna_deepweeds.samplers.transfer import PriorSource
from optuna_deepweeds.spaces import SearchSpace


class DNGOSampler(ModelBasedSampler):
    """Bayesian optimisation with network features, for any single-objective study.

    Everything but the surrogate is that of `RandomForestEISampler`. The networks are trained
    anew whenever the study has grown by a fifth, their heads for every suggestion.

    Args:
        seed: Makes the study reproducible across processes and interruptions; not with
            `n_jobs > 1`.
        n_startup_trials: Random trials before the first model, unless priors give one.
        space: The searched space with its exact conditions; without it, which parameters are
            conditional is learnt from the trials.
        priors: Evaluations of other tasks. Prior trials of the study itself are found there.
        n_networks: Networks of the ensemble.

    Source: Snoek et al. 2015, "Scalable Bayesian Optimization Using Deep Neural Networks".
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
        space: SearchSpace | None = None,
        priors: Sequence[PriorSource] = (),
        n_networks: int = 5,
    ) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials, space=space, priors=priors)
        if n_networks < 1:
            raise ValueError(f"`n_networks >= 1` must hold, but got n_networks={n_networks}.")
        self._n_networks = n_networks
        self._trained: tuple[bytes, NetworkSurrogate] | None = None

    def _fit(
        self, seen: Observations, X: np.ndarray, y: np.ndarray, rng: np.random.Generator
    ) -> Surrogate:
        surrogate = self._networks(seen).condition(seen.encoder.features(X), y)
        return _OnCodes(seen.encoder, surrogate)

    def _networks(self, seen: Observations) -> NetworkSurrogate:
        """Networks trained at the last milestone of the study; only the heads are always new."""
        n = milestone(len(seen.X))
        X, scores = seen.X[:n], normal_scores(average_ranks(seen.ranks[:n, None]))
        key = X.tobytes() + scores.tobytes()
        if self._trained is None or self._trained[0] != key:
            network = NetworkSurrogate(n_networks=self._n_networks)
            rng = generator(self._seed, n, "networks")
            network.train(seen.encoder.features(X), scores, rng)
            self._trained = (key, network)
        return self._trained[1]


class _OnCodes:
    """A `NetworkSurrogate` that takes codes."""

    def __init__(self, encoder: Encoder, surrogate: NetworkSurrogate) -> None:
        self._encoder = encoder
        self._surrogate = surrogate

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._surrogate.predict(self._encoder.features(X))

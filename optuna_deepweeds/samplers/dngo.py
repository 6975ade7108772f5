"""The sampler of network features with a Bayesian linear head, several networks at once.

Notation: e networks, m inputs, h hidden units, b rows of a batch; Phi: (n, h + 1) features of
the last hidden layer with a constant; alpha and beta, precisions of the head's weights and of
the noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from optuna_deepweeds.samplers.forest import VARIANCE_FLOOR
from optuna_deepweeds.samplers.history import AtMilestones, Observations
from optuna_deepweeds.samplers.model_based import ModelBasedSampler, OnFeatures, Surrogate
from optuna_deepweeds.samplers.targets import normal_scores
from optuna_deepweeds.samplers.transfer import PriorSource
from optuna_deepweeds.schema import require_whole
from optuna_deepweeds.seeds import generator
from optuna_deepweeds.spaces import SearchSpace

_N_HIDDEN = 40
_N_STEPS = 250
_BATCH = 64
_LEARNING_RATE = 0.01
_WEIGHT_DECAY = 1e-4
_DECAY_1, _DECAY_2, _EPSILON = 0.9, 0.999, 1e-8
_N_EVIDENCE_STEPS = 10
_PRECISION_BOUNDS = (1e-4, 1e6)


class Networks:
    """Two hidden layers of tanh and a linear output, (e, ...) arrays of weights."""

    def __init__(self, n_networks: int, n_inputs: int, rng: np.random.Generator) -> None:
        def layer(n_in: int, n_out: int, gain: float) -> list[np.ndarray]:
            scale = gain / np.sqrt(n_in)
            weights = rng.normal(scale=scale, size=(n_networks, n_in, n_out))
            biases = rng.normal(scale=0.5, size=(n_networks, 1, n_out))
            return [weights.astype(np.float32), biases.astype(np.float32)]

        self.weights = [
            *layer(n_inputs, _N_HIDDEN, 1.5),
            *layer(_N_HIDDEN, _N_HIDDEN, 1.5),
            *layer(_N_HIDDEN, 1, 0.3),
        ]

    def hidden(self, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Activations of both hidden layers, (e, b, h) each, for F: (b, m) or (e, b, m)."""
        W1, b1, W2, b2, _, _ = self.weights
        first = np.tanh(F @ W1 + b1)
        return first, np.tanh(first @ W2 + b2)

    def gradient(self, F: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        """Gradient of half the mean squared error at F: (e, b, m), y: (e, b, 1)."""
        _, _, W2, _, W3, b3 = self.weights
        first, second = self.hidden(F)
        error = (second @ W3 + b3 - y) / F.shape[1]
        back_second = (error @ W3.transpose(0, 2, 1)) * (1.0 - second**2)
        back_first = (back_second @ W2.transpose(0, 2, 1)) * (1.0 - first**2)
        gradient = []
        for inputs, back in ((F, back_first), (first, back_second), (second, error)):
            gradient += [inputs.transpose(0, 2, 1) @ back, back.sum(axis=1, keepdims=True)]
        return gradient

    def train(self, F: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
        """Adam on small batches, every network on batches of its own; the rate falls to zero."""
        n, e = len(F), len(self.weights[0])
        size = min(n, _BATCH)
        first = [np.zeros_like(w) for w in self.weights]
        second = [np.zeros_like(w) for w in self.weights]
        for step in range(1, _N_STEPS + 1):
            rows = rng.integers(n, size=(e, size))
            rate = _LEARNING_RATE * (1.0 - (step - 1) / _N_STEPS)
            rate *= np.sqrt(1.0 - _DECAY_2**step) / (1.0 - _DECAY_1**step)
            gradient = self.gradient(F[rows], y[rows][..., None])
            for w, g, m1, m2 in zip(self.weights, gradient, first, second, strict=True):
                m1 += (1.0 - _DECAY_1) * (g - m1)
                m2 += (1.0 - _DECAY_2) * (g * g - m2)
                w -= np.float32(rate) * (m1 / (np.sqrt(m2) + _EPSILON) + _WEIGHT_DECAY * w)


class _BayesianHead:
    """Bayesian linear regression whose precisions maximise the evidence.

    Source: Bishop 2006, "Pattern Recognition and Machine Learning", section 3.5.2.
    """

    def __init__(self, Phi: np.ndarray, y: np.ndarray) -> None:
        n = len(Phi)
        gram = Phi.T @ Phi
        eigenvalues = np.maximum(np.linalg.eigvalsh(gram), 0.0)
        moment = Phi.T @ y
        alpha, beta = 1.0, 10.0
        for _ in range(_N_EVIDENCE_STEPS):
            mean = np.linalg.solve(alpha * np.eye(len(gram)) + beta * gram, beta * moment)
            effective = float((beta * eigenvalues / (alpha + beta * eigenvalues)).sum())
            error = float(((y - Phi @ mean) ** 2).sum())
            alpha = float(np.clip(effective / (mean @ mean + 1e-12), *_PRECISION_BOUNDS))
            beta = float(np.clip(max(n - effective, 1.0) / (error + 1e-12), *_PRECISION_BOUNDS))
        self._factor = cho_factor(alpha * np.eye(len(gram)) + beta * gram)
        self._mean = cho_solve(self._factor, beta * moment)

    def predict(self, Phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the noise-free value, (a,) each, at Phi: (a, h + 1)."""
        variance = np.einsum("ij,ji->i", Phi, cho_solve(self._factor, Phi.T))
        return Phi @ self._mean, variance


def train_networks(
    F: np.ndarray, y: np.ndarray, rng: np.random.Generator, *, n_networks: int
) -> Networks:
    """Networks trained on F: (n, m) features in [0, 1] and y: (n,) values."""
    networks = Networks(n_networks, F.shape[1], rng)
    targets = (y - y.mean()) / (float(y.std()) or 1.0)
    networks.train(_inputs(F), targets.astype(np.float32), rng)
    return networks


class NetworkSurrogate:
    """An ensemble of trained networks, each with a Bayesian linear head for some observations.

    Args:
        networks: The ensemble.
        F: (n, m) features in [0, 1].
        y: (n,) values.

    Source: Snoek et al. 2015, "Scalable Bayesian Optimization Using Deep Neural Networks"; an
    ensemble in place of one network, evidence in place of integrating over precisions.
    """

    def __init__(self, networks: Networks, F: np.ndarray, y: np.ndarray) -> None:
        self._networks = networks
        self._shift, self._scale = float(y.mean()), float(y.std()) or 1.0
        targets = (y - self._shift) / self._scale
        self._heads = [_BayesianHead(Phi, targets) for Phi in self._features(F)]

    def predict(self, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance, (a,) each, at F: (a, m): the heads' and the networks' spread."""
        predictions = [
            head.predict(Phi) for head, Phi in zip(self._heads, self._features(F), strict=True)
        ]
        means = np.array([mean for mean, _ in predictions])
        variance = np.array([v for _, v in predictions]).mean(axis=0) + means.var(axis=0)
        mean = means.mean(axis=0) * self._scale + self._shift
        return mean, np.maximum(variance * self._scale**2, VARIANCE_FLOOR)

    def _features(self, F: np.ndarray) -> np.ndarray:
        _, hidden = self._networks.hidden(_inputs(F))
        ones = np.ones((*hidden.shape[:2], 1))
        return np.concatenate([hidden.astype(np.float64), ones], axis=2)


def _inputs(F: np.ndarray) -> np.ndarray:
    return (2.0 * F - 1.0).astype(np.float32)


class DNGOSampler(ModelBasedSampler):
    """Bayesian optimisation with network features, for any single-objective study.

    Everything but the surrogate is that of `RandomForestEISampler`. The networks are trained
    anew whenever the study has grown by a fifth, their heads for every suggestion.

    Args:
        seed, n_startup_trials, space, priors: See `ModelBasedSampler`.
        n_networks: Networks of the ensemble.

    Source: Snoek et al. 2015, "Scalable Bayesian Optimization Using Deep Neural Networks".
    """

    _follows_curves = False

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
        require_whole("n_networks", n_networks, at_least=1)
        self._n_networks = n_networks
        self._networks = AtMilestones[Networks]()

    def _fit(
        self, seen: Observations, X: np.ndarray, y: np.ndarray, rng: np.random.Generator
    ) -> Surrogate:
        def train(X: np.ndarray, ranks: np.ndarray, values: np.ndarray) -> Networks:
            rng = generator(self._seed, len(X), "networks")
            F = seen.encoder.features(X)
            return train_networks(F, normal_scores(ranks), rng, n_networks=self._n_networks)

        networks = self._networks.get(seen, train)
        return OnFeatures(seen.encoder, NetworkSurrogate(networks, seen.encoder.features(X), y))

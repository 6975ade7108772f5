"""Several surrogates as one, each with the say that its foresight has earned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optuna_deepweeds.samplers.model_based import Surrogate

_SHARPNESS = 8.0
"""How strongly weights follow errors: a part with half the squared error counts 256 times."""
_FAINTEST = 0.02
"""Smallest share of the largest weight that still has a say; less is not worth its time."""
_SMALLEST_ERROR = 1e-6


def earned_weights(foretold: Sequence[np.ndarray], y: np.ndarray) -> np.ndarray:
    """(parts,) weights that sum to one, from predictions of values unseen by each part.

    Args:
        foretold: For each part, (n,) what it expected of observations that it had not seen.
        y: (n,) what was observed.
    """
    errors = np.array([((expected - y) ** 2).mean() for expected in foretold])
    weights = (errors + _SMALLEST_ERROR) ** -_SHARPNESS
    return weights / weights.sum()


class Blend:
    """The mixture of its parts: where they disagree, it is uncertain.

    Args:
        parts: The surrogates.
        weights: (parts,) shares that sum to one; parts with the faintest are left out.
    """

    def __init__(self, parts: Sequence[Surrogate], weights: np.ndarray) -> None:
        heard = weights >= _FAINTEST * weights.max()
        self._parts = [part for part, is_heard in zip(parts, heard, strict=True) if is_heard]
        self._weights = weights[heard] / weights[heard].sum()

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the mixture, (n,) each, at X: (n, d) codes."""
        predictions = [part.predict(X) for part in self._parts]
        means = np.array([mean for mean, _ in predictions])
        variances = np.array([variance for _, variance in predictions])
        mean = self._weights @ means
        return mean, self._weights @ (variances + (means - mean) ** 2)

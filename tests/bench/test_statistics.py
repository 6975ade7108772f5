"""Statistics on cases with known answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from optuna_deepweeds.bench.statistics import (
    bootstrap,
    bootstrap_weights,
    estimate,
    mean_and_error,
    win_matrix,
)


def test_win_matrix_counts_wins_and_halves_ties() -> None:
    matrix = win_matrix([1.0, 2.0], [2.0, 3.0, 0.5])
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0.5, 1, 0]])


def test_weights_start_with_the_sample_and_sum_to_one() -> None:
    weights = bootstrap_weights(7, np.random.default_rng(0), n_resamples=50)
    assert weights.shape == (51, 7)
    np.testing.assert_allclose(weights[0], 1 / 7)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(weights * 7, np.round(weights * 7), atol=1e-12)


def test_error_of_a_mean_is_the_textbook_one() -> None:
    rng = np.random.default_rng(3)
    sample = rng.normal(size=60)
    mean, error = estimate(bootstrap_weights(60, rng, n_resamples=4000) @ sample)
    assert mean == pytest.approx(sample.mean())
    assert error == pytest.approx(sample.std() / np.sqrt(60), rel=0.05)


def test_error_of_a_difference_adds_the_variances_of_independent_samples() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 50))
    of_a, of_b = (bootstrap_weights(50, rng, n_resamples=4000) @ sample for sample in (a, b))
    difference, error = estimate(of_a - of_b)
    assert difference == pytest.approx(a.mean() - b.mean())
    assert error == pytest.approx(np.sqrt((a.var() + b.var()) / 50), rel=0.05)


def test_error_is_unknown_where_a_resample_has_no_finite_outcome() -> None:
    value, error = estimate([3.0, 2.0, np.inf])
    assert value == 3.0
    assert np.isnan(error)


def test_mean_and_error_of_few_values() -> None:
    assert mean_and_error([1.0, 3.0]) == (2.0, 1.0)
    assert np.isnan(mean_and_error([2.0])[1])


def test_bootstrap_resamples_each_sample_by_itself() -> None:
    a, b = np.random.default_rng(4).normal(size=(2, 50))
    error = bootstrap(
        lambda indices: a[indices[0]].mean() - b[indices[1]].mean(), [50, 50], n_resamples=4000
    )
    assert error == pytest.approx(np.sqrt((a.var() + b.var()) / 50), rel=0.05)


def test_bootstrap_keeps_the_shape_repeats_and_needs_two_runs() -> None:
    sample = np.arange(12.0)

    def statistic(indices: Sequence[NDArray[np.int64]]) -> tuple[float, float]:
        return float(sample[indices[0]].mean()), 1.0

    first, second = bootstrap(statistic, [12]), bootstrap(statistic, [12])
    np.testing.assert_array_equal(first, second)
    assert first[1] == 0.0
    assert np.isnan(bootstrap(lambda indices: 1.0, [1]))

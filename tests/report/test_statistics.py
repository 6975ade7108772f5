"""Statistics against hand-computed values and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import permutation_test, rankdata

from optuna_deepweeds.report.statistics import (
    Estimate,
    average_ranks,
    bootstrap_mean,
    difference_sentence,
    geometric_mean,
    holm,
    paired_tests,
    savings_sentence,
    sign_flip_p,
)


def test_sign_flip_is_the_exact_permutation_test() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 6, 9):
        d = rng.normal(0.5, 1, n)
        reference = permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_p(d) == pytest.approx(reference.pvalue)


def test_sign_flip_extremes() -> None:
    assert sign_flip_p([0.1, 0.2, 0.3]) == 0.25
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert math.isnan(sign_flip_p([]))
    assert sign_flip_p([1.0] * 30) < 1e-3


def test_bootstrap_interval_covers_and_is_reproducible() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        estimate = bootstrap_mean(rng.normal(2.0, 1.0, 20))
        hits += estimate.low <= 2.0 <= estimate.high
    assert hits >= 85
    assert bootstrap_mean([1, 2, 3]) == bootstrap_mean([1, 2, 3])


def test_bootstrap_of_little_data_gives_no_interval() -> None:
    assert math.isnan(bootstrap_mean([]).mean)
    assert bootstrap_mean([3.0]).mean == 3.0 and math.isnan(bootstrap_mean([3.0]).low)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    corrected = holm([0.5, math.nan, 0.9])
    assert corrected[0] == 1.0 and math.isnan(corrected[1]) and corrected[2] == 1.0


def test_pairs_use_shared_seeds_only() -> None:
    values = {"a": {1: 0.5, 2: 0.7, 3: math.nan}, "b": {2: 0.4, 3: 0.1, 4: 0.9}}
    (test,) = paired_tests(values, [("a", "b")])
    assert test.difference.n == 1 and test.difference.mean == pytest.approx(0.3)


def test_ranks_as_scipy() -> None:
    rng = np.random.default_rng(2)
    table = rng.integers(0, 4, (20, 5)).astype(float)
    expected = np.array([rankdata(-row) for row in table])
    assert np.array_equal(average_ranks(table), expected)
    assert average_ranks(np.array([[np.nan, 0.1]])).tolist() == [[2, 1]]


def sentence(a: list[float], b: list[float], sign: float = 1.0) -> str:
    values = {"a": dict(enumerate(a)), "b": dict(enumerate(b))}
    (test,) = paired_tests(values, [("a", "b")])
    return difference_sentence(test, "accuracy", sign)


def test_difference_sentences() -> None:
    assert sentence([0.6, 0.7, 0.8], [0.5, 0.5, 0.5]) == (
        "a ends 0.2 better than b in accuracy on average; 95\u00a0% interval 0.1 to 0.3; "
        "p = 0.25; 3 seeds are few."
    )
    assert " worse " in sentence([0.6, 0.7], [0.5, 0.5], sign=-1.0)
    assert "tells nothing about chance" in sentence([0.6], [0.5])
    assert "share no seed" in sentence([], [])
    assert "the same accuracy" in sentence([0.5, 0.5], [0.5, 0.5])
    assert "few" not in sentence([0.6] * 6, [0.5] * 6)
    assert "interval -" in sentence([0.4, 0.9], [0.5, 0.5])


def test_savings_sentences_turn_the_ratio_round() -> None:
    text = savings_sentence("dora", "none", Estimate(3.1, 2.4, 4.0, 3), "epochs", 0)
    assert text == (
        "dora needs 3.1 times fewer epochs than none for the same value; "
        "95\u00a0% interval 2.4 to 4; 3 seeds are few."
    )
    text = savings_sentence("a", "b", Estimate(0.5, 0.25, 1.0, 8), "epochs", 2)
    assert "2 times more epochs" in text and "1 to 4" in text and "2 more without" in text
    assert "too little data" in savings_sentence("a", "b", geometric_mean([]), "epochs", 3)
    assert "equally many" in savings_sentence("a", "b", Estimate(1, 0.9, 1.1, 9), "epochs", 0)

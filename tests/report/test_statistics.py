"""Statistics against hand-computed values and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from optuna_deepweeds.report.statistics import (
    Estimate,
    average_ranks,
    geometric_mean,
    holm,
    interval,
    mean_estimate,
    paired_tests,
    sentence,
    sign_flip_p,
)

NONE = geometric_mean([])


@pytest.mark.parametrize("n", [3, 6, 9])
def test_sign_flip_tries_every_combination_of_signs(n: int) -> None:
    d = np.random.default_rng(n).normal(0.5, 1, n)
    flipped = np.array(list(itertools.product((1, -1), repeat=n))) @ d
    assert sign_flip_p(d) == pytest.approx(np.mean(abs(flipped) >= abs(d.sum()) - 1e-12))


def test_sign_flip_extremes() -> None:
    assert sign_flip_p([0.1, 0.2, 0.3]) == 0.25
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert math.isnan(sign_flip_p([]))
    assert sign_flip_p([1.0] * 30) < 1e-3


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_intervals_cover_what_they_say(n: int) -> None:
    rng = np.random.default_rng(n)
    estimates = [mean_estimate(rng.normal(2.0, 1.0, n)) for _ in range(2000)]
    assert 0.93 <= np.mean([e.low <= 2.0 <= e.high for e in estimates]) <= 0.97


def test_little_data_gives_no_interval() -> None:
    assert math.isnan(mean_estimate([]).mean)
    assert mean_estimate([3.0]).mean == 3.0 and math.isnan(mean_estimate([3.0]).low)
    assert mean_estimate([0.2] * 3).low == pytest.approx(mean_estimate([0.2] * 3).high)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    corrected = holm([0.5, math.nan, 0.9])
    assert corrected[0] == 1.0 and math.isnan(corrected[1]) and corrected[2] == 1.0


def test_pairs_use_shared_seeds_only() -> None:
    values = {"a": {1: 0.5, 2: 0.7, 3: math.nan}, "b": {2: 0.4, 3: 0.1, 4: 0.9}}
    (test,) = paired_tests(values, [("a", "b")])
    assert test.difference.n == 1 and test.difference.mean == pytest.approx(0.3)


def test_ranks() -> None:
    table = np.array([[0.3, 0.5, 0.3], [np.nan, 0.1, 0.2]])
    assert average_ranks(table).tolist() == [[2.5, 1, 2.5], [3, 2, 1]]


def said(a: list[float], b: list[float], sign: float = 1.0, ratio: Estimate = NONE) -> str:
    values = {"a": dict(enumerate(a)), "b": dict(enumerate(b))}
    (test,) = paired_tests(values, [("a", "b")])
    return " ".join(sentence(test, "accuracy", sign, ratio))


def test_difference_in_words() -> None:
    assert said([0.6, 0.7, 0.8], [0.5, 0.5, 0.5]) == (
        "a is 0.2 better than b in accuracy over 3 seeds "
        "(95\u00a0% interval -0.05 to 0.45), which chance can explain."
    )
    assert said([0.6, 0.7], [0.5, 0.5], sign=-1.0).startswith("b is 0.15 better than a")
    assert said([0.6], [0.5]) == (
        "a is 0.1 better than b in accuracy with the one seed they share."
    )
    assert "the same accuracy" in said([0.5, 0.5], [0.5, 0.5])
    assert "(the same with every seed), more than chance explains." in said([0.6] * 6, [0.5] * 6)


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Estimate(3.1, 2.4, 4.0, 3), "For the same value a needs 3.1 times fewer epochs (2.4 to"),
        (Estimate(0.5, 0.25, 1.0, 8), "b needs 2 times fewer epochs (1 to 4)."),
        (Estimate(1, 0.9, 1.1, 9), "both need equally many epochs."),
        (NONE, "(the same with every seed), which chance can explain."),
    ],
)
def test_savings_in_words(ratio: Estimate, words: str) -> None:
    assert words in said([0.6, 0.6], [0.5, 0.5], ratio=ratio)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(-1e-9, 0.2, "0.00 to 0.20"), (1.81, 1.84, "1.810 to 1.840"), (-120, 340, "-120 to 340")],
)
def test_ends_of_an_interval_differ_in_print(low: float, high: float, words: str) -> None:
    assert interval(low, high).endswith(f"interval {words}")

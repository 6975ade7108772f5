"""Paired statistics over seeds, and sentences that say what they are worth.

| symbol | meaning |
|---|---|
| d | (n,) differences over the seeds that two methods share, first minus second |
| interval | percentile bootstrap of the mean of d |
| p | two-sided sign-flip permutation test of mean d = 0, exact up to 14 seeds |
| p_holm | p corrected for the number of comparisons by Holm's step-down procedure |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
FEW_SEEDS = 6
"""Below this many seeds even full agreement gives p > .05 (2 / 2**5 = .0625 with five)."""

_N_RESAMPLES = 10_000
_EXACT_UP_TO = 14


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its bootstrap interval; the interval is NaN with one seed."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class PairedTest:
    """Two methods compared over the seeds they share.

    Attributes:
        first: Name of a method.
        second: Name of the other.
        difference: Of first minus second, in the metric's own units.
        p: Of the sign-flip test; NaN without a shared seed.
        p_holm: Corrected; equal to `p` where nothing was corrected.
    """

    first: str
    second: str
    difference: Estimate
    p: float
    p_holm: float


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean of `values` and its 95 % percentile bootstrap interval."""
    x = np.asarray(values, dtype=float)
    if len(x) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if len(x) == 1:
        return Estimate(float(x[0]), math.nan, math.nan, 1)
    generator = np.random.default_rng(np.random.SeedSequence([seed, len(x)]))
    means = x[generator.integers(0, len(x), (_N_RESAMPLES, len(x)))].mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(float(x.mean()), float(low), float(high), len(x))


def sign_flip_p(differences: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p of the mean of `differences` if each sign were a coin's; NaN if there are none.

    Every combination of signs is tried up to 14 differences, 20,000 random ones beyond.
    """
    d = np.asarray(differences, dtype=float)
    n = len(d)
    if n == 0:
        return math.nan
    if n <= _EXACT_UP_TO:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
        extra = 0
    else:
        generator = np.random.default_rng(np.random.SeedSequence([seed, n]))
        signs = generator.choice((1.0, -1.0), size=(20_000, n))
        extra = 1  # The observed signs are one of the combinations.
    sums = np.abs(signs @ d)
    # Sums of the same numbers in another order may differ in the last bits.
    as_large = int((sums >= abs(d.sum()) - 1e-9 * max(1.0, np.abs(d).sum())).sum())
    return (as_large + extra) / (len(signs) + extra)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; NaN stays and does not count as a comparison."""
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected = list(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p))
        corrected[i] = running
    return corrected


def paired_tests(
    values: Mapping[str, Mapping[Hashable, float]], pairs: Sequence[tuple[str, str]]
) -> list[PairedTest]:
    """Test each of `pairs` over the seeds both methods have, corrected together.

    Args:
        values: Method -> seed -> value; non-finite values count as not there.
        pairs: Names of the methods to compare.
    """
    found = []
    for first, second in pairs:
        seeds = shared_seeds(values[first], values[second])
        d = [values[first][seed] - values[second][seed] for seed in seeds]
        found.append((first, second, bootstrap_mean(d), sign_flip_p(d)))
    corrected = holm([p for *_, p in found])
    return [PairedTest(*parts, p_holm) for parts, p_holm in zip(found, corrected, strict=True)]


def shared_seeds(
    first: Mapping[Hashable, float], second: Mapping[Hashable, float]
) -> list[Hashable]:
    """Seeds with a finite value in both, in the order of `first`."""
    return [
        seed
        for seed, value in first.items()
        if math.isfinite(value) and math.isfinite(second.get(seed, math.nan))
    ]


def geometric_mean(ratios: Sequence[float]) -> Estimate:
    """Geometric mean of positive ratios with its bootstrap interval."""
    logs = bootstrap_mean([math.log(r) for r in ratios])
    return Estimate(math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high), logs.n)


def average_ranks(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each method within each row, 1 for the largest; ties share their mean rank.

    Args:
        table: (n_rows, n_methods), larger is better; NaN ranks last.
    """
    filled = np.where(np.isnan(table), -np.inf, table)
    better = (filled[:, None, :] > filled[:, :, None]).sum(axis=2)
    equal = (filled[:, None, :] == filled[:, :, None]).sum(axis=2)
    ranks: NDArray[np.float64] = better + (equal + 1) / 2
    return ranks


def difference_sentence(test: PairedTest, metric: str, sign: float) -> str:
    """What a paired test says, in a sentence for people.

    Args:
        test: The test.
        metric: Name of the metric.
        sign: +1 if larger values are better, else -1.
    """
    d = test.difference
    if d.n == 0:
        return f"{test.first} and {test.second} share no seed with a finished trial in both."
    mean = "on average" if d.n > 1 else "with the one seed they share"
    if d.mean == 0:
        text = f"{test.first} and {test.second} reach the same {metric} {mean}"
    else:
        word = "better" if sign * d.mean > 0 else "worse"
        text = f"{test.first} ends {abs(d.mean):.3g} {word} than {test.second} in {metric} {mean}"
    if d.n == 1:
        return f"{text}; one seed tells nothing about chance."
    # In the direction of the word: negative where the interval reaches beyond zero.
    low, high = sorted((math.copysign(1, d.mean) * d.low, math.copysign(1, d.mean) * d.high))
    interval = f"95\u00a0% interval {low:.2g} to {high:.2g}"
    return f"{text}; {interval}; {p_phrase(test)}{few_phrase(d.n)}."


def savings_sentence(first: str, second: str, ratio: Estimate, unit: str, n_never: int) -> str:
    """How many times more `unit` the method `second` needs than `first` for the same value.

    Args:
        first: A method.
        second: The one it is compared with.
        ratio: Cost of `second` over cost of `first`, over the seeds where both got there.
        unit: "epochs" or "seconds".
        n_never: Seeds left out because one of the two has no finished trial.
    """
    if ratio.n == 0:
        return f"{first} and {second} cannot be compared in {unit}: too little data."
    if 0.995 <= ratio.mean <= 1.005:
        text = f"{first} and {second} need equally many {unit} for the same value"
    elif ratio.mean > 1:
        text = (
            f"{first} needs {ratio.mean:.2g} times fewer {unit} than {second} for the same value"
        )
    else:
        text = (
            f"{first} needs {1 / ratio.mean:.2g} times more {unit} than {second} "
            "for the same value"
        )
        ratio = Estimate(1 / ratio.mean, 1 / ratio.high, 1 / ratio.low, ratio.n)
    left_out = f"; {n_never} more without a finished trial" if n_never else ""
    return f"{text}; {interval_phrase(ratio)}{few_phrase(ratio.n)}{left_out}."


def interval_phrase(estimate: Estimate) -> str:
    """The interval in words."""
    if math.isnan(estimate.low):
        return "one seed gives no interval"
    return f"95\u00a0% interval {estimate.low:.2g} to {estimate.high:.2g}"


def p_phrase(test: PairedTest) -> str:
    """The p value in words."""
    corrected = "" if test.p_holm == test.p else f", {test.p_holm:.2g} corrected"
    return f"p = {test.p:.2g}{corrected}"


def few_phrase(n: int) -> str:
    """A warning where the number of seeds is too small to tell; else empty."""
    if n >= FEW_SEEDS:
        return ""
    return f"; {n} seed{'s are' if n != 1 else ' is'} few"

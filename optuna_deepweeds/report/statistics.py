"""Paired statistics over seeds, and sentences that say what they are worth.

| symbol | meaning |
|---|---|
| d | (n,) differences over the seeds that two methods share, first minus second |
| interval | Student's t interval of the mean of d; it covers what it says from two seeds on |
| p | two-sided sign-flip permutation test of mean d = 0, exact up to 14 seeds |
| p_holm | p corrected for the number of comparisons by Holm's step-down procedure |
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
FEW_SEEDS = 6
"""Below this many seeds even full agreement gives p > .05 (2 / 2**5 = .0625 with five)."""

_EXACT_UP_TO = 2**14


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval; the interval is NaN with one seed."""

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


def mean_estimate(values: Sequence[float]) -> Estimate:
    """The mean of `values` and its 95 % interval by Student's t."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return Estimate(float(x[0]) if len(x) else math.nan, math.nan, math.nan, len(x))
    from scipy import stats  # Half a second; comparisons of one seed do without.

    mean = float(x.mean())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * stats.sem(x))
    return Estimate(mean, mean - half, mean + half, len(x))


def geometric_mean(ratios: Sequence[float]) -> Estimate:
    """Geometric mean of positive ratios with its interval."""
    logs = mean_estimate([math.log(r) for r in ratios])
    return Estimate(math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high), logs.n)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Two-sided p of the mean of `differences` if each sign were a coin's; NaN if there are none.

    Every combination of signs is tried up to 14 differences, so many random ones beyond.
    """
    if not len(differences):
        return math.nan
    if len(differences) == 1:
        return 1.0
    from scipy import stats

    found = stats.permutation_test(
        (np.asarray(differences, dtype=float),), np.mean, permutation_type="samples",
        n_resamples=_EXACT_UP_TO, vectorized=True, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)


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
        found.append(PairedTest(first, second, mean_estimate(d), sign_flip_p(d), math.nan))
    corrected = holm([test.p for test in found])
    return [replace(test, p_holm=p) for test, p in zip(found, corrected, strict=True)]


def shared_seeds(
    first: Mapping[Hashable, float], second: Mapping[Hashable, float]
) -> list[Hashable]:
    """Seeds with a finite value in both, in the order of `first`."""
    return [
        seed
        for seed, value in first.items()
        if math.isfinite(value) and math.isfinite(second.get(seed, math.nan))
    ]


def average_ranks(values: NDArray[np.float64], axis: int = 1) -> NDArray[np.float64]:
    """Ranks along `axis`, 1 for the largest and the last for NaN; ties share their mean rank."""
    from scipy import stats

    lowest = np.where(np.isnan(values), -np.inf, values)
    return np.asarray(stats.rankdata(-lowest, axis=axis))


def sentence(test: PairedTest, metric: str, sign: float, ratio: Estimate) -> list[str]:
    """What a paired test says, and what the same value costs, each a sentence for people.

    Args:
        test: Over one shared seed at least.
        metric: Name of the metric.
        sign: +1 if larger values are better, else -1.
        ratio: Epochs of the second method over those of the first until both have what the worse
            one ends with.
    """
    d, n = test.difference, test.difference.n
    over = f"over {n} seeds" if n > 1 else "with the one seed they share"
    if d.mean == 0:
        text = f"{test.first} and {test.second} reach the same {metric} {over}"
    else:
        is_ahead = sign * d.mean > 0
        ahead, behind = (test.first, test.second) if is_ahead else (test.second, test.first)
        text = f"{ahead} is {abs(d.mean):.3g} better than {behind} in {metric} {over}"
    if n > 1:
        # In the direction of the word: negative where the interval reaches beyond zero.
        turned = math.copysign(1, d.mean)
        ends = interval(*sorted((turned * d.low, turned * d.high)))
        is_beyond = test.p < 1 - CONFIDENCE
        alone = " in this pair alone" * (test.p_holm >= 1 - CONFIDENCE)
        chance = f"more than chance explains{alone}" if is_beyond else "which chance can explain"
        text += f" ({ends}), {chance}"
    return [f"{text}.", *_cost(test, ratio)]


def _cost(test: PairedTest, ratio: Estimate) -> list[str]:
    if ratio.n == 0:
        return []
    if 0.995 <= ratio.mean <= 1.005:
        return ["For the same value both need equally many epochs."]
    name, low, high = test.first, ratio.low, ratio.high
    if ratio.mean < 1:
        ratio = Estimate(1 / ratio.mean, 1 / high, 1 / low, ratio.n)
        name = test.second
    ends = f" ({ratio.low:.2g} to {ratio.high:.2g})" if ratio.n > 1 else ""
    return [f"For the same value {name} needs {ratio.mean:.2g} times fewer epochs{ends}."]


def interval(low: float, high: float) -> str:
    """The interval in words, with as many digits as tell its ends apart."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return "the same with every seed"
    digits = max(0, 1 - math.floor(math.log10(high - low)))
    # Adding zero takes the sign from a zero.
    ends = (f"{round(end, digits) + 0.0:.{digits}f}" for end in (low, high))
    return f"95\u00a0% interval {' to '.join(ends)}"

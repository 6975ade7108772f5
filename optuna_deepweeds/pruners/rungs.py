"""Rungs: the resources at which a trial is compared with all that came as far; promotion there.

Plain functions; values are in the direction "larger is better".

    G_i    resource of rung i, G_{last + 1} is a full training
    n_0    number of results at the first rung
    m_i    the best m_i of all values ever seen at rung i are promoted
    f_0    share of the first rung's results that is promoted

Every rung above the first is given the same number of epochs in total, which makes
m_i = n_0 * f * G_0 / (G_{i+1} - G_i), rounded as `n_promoted` tells. A trial that is not promoted
yet stays paused, and goes on as soon as enough new trials have come in below it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_UPPER_SHARE = 0.25
_MIN_PAIRS_TO_DISTRUST = 8
_BEYOND_CHANCE = 1.645  # exceeded once in twenty times by a standard normal variable


class RungValues:
    """Values of trials at one rung, kept in order, so that a question costs no sorting.

    NaN is worse than every number; of equal values the earlier trial's is the better one.
    """

    def __init__(self) -> None:
        self._by_number: dict[int, float] = {}
        self._best_first: list[tuple[float, int]] = []  # (badness, number)

    def __len__(self) -> int:
        return len(self._by_number)

    @property
    def by_number(self) -> Mapping[int, float]:
        """The value of each trial."""
        return self._by_number

    def set(self, number: int, value: float) -> None:
        """Give a trial its value, which replaces one that it had."""
        self.discard(number)
        self._by_number[number] = value
        insort(self._best_first, (_badness(value), number))

    def discard(self, number: int) -> None:
        """Forget a trial, if it is there."""
        if number in self._by_number:
            value = self._by_number.pop(number)
            del self._best_first[bisect_left(self._best_first, (_badness(value), number))]

    def best(self, n: int | None = None) -> list[int]:
        """Return the numbers of the `n` best trials, or of all, best first."""
        return [number for _, number in self._best_first[:n]]


def _badness(value: float) -> float:
    return math.inf if math.isnan(value) else -value


def rung_steps(min_resource: int, max_resource: int, reduction_factor: int) -> list[int]:
    """Return `min_resource` times the powers of `reduction_factor`, all below `max_resource`.

    Powers are built by multiplication: the floor of a logarithm loses a rung to rounding.
    """
    steps = []
    step = min_resource
    while step < max_resource:
        steps.append(step)
        step *= reduction_factor
    return steps


def value_at(curve: Mapping[int, float], rung: int, window: int = 1) -> float:
    """Return the value of a curve at a rung: the mean of its last `window` reports up to there.

    A curve with gaps that jumps over the rung is read at its first report after it.

    Args:
        curve: reports by step, in any order.
        rung: a step that the curve has reached.
        window: number of reports to average, at least 1.

    Returns:
        NaN when the curve has not reached the rung, or when a report in the window is not finite.
    """
    at = min((step for step in curve if step >= rung), default=None)
    if at is None:
        return float("nan")
    steps = sorted(step for step in curve if step <= at)[-window:]
    value = float(np.mean([curve[step] for step in steps]))
    return value if np.isfinite(value) else float("nan")


def is_in_top(value: float, others: Sequence[float], share: float) -> bool:
    """Tell whether `value` is among the best max(1, floor(n * share)) of n values.

    Args:
        value: the value in question; NaN never passes.
        others: the n - 1 other values seen at the rung; NaN counts as a value that is worst.
        share: share of the values that passes, in (0, 1].

    A value that equals an earlier one ranks behind it: networks that all predict one class have
    equal accuracies, and letting ties pass together would train every one of them.
    """
    if np.isnan(value):
        return False
    values = np.nan_to_num(np.asarray(others, dtype=float), nan=-np.inf)
    n_pass = max(1, int((len(values) + 1) * share + 1e-9))
    return int(np.count_nonzero(values >= value)) < n_pass


def first_trusted(rungs: Sequence[Mapping[int, float]]) -> int:
    """Return the index of the first rung at which trials should be told apart.

    A rung misleads when the trials that went on from it stand in the opposite order at the next
    one. Then all rungs up to it are passed by every trial. That brings trials of all ranks to
    the next rung, so that a wrong suspicion is soon refuted.

    Args:
        rungs: for each rung its values by trial number.
    """
    pairs = zip(rungs, rungs[1:], strict=False)
    return max(
        (i + 1 for i, (rung, later) in enumerate(pairs) if misleads(rung, later)), default=0
    )


def misleads(first: Mapping[int, float], second: Mapping[int, float]) -> bool:
    """Tell whether ranks at two rungs are opposed beyond chance, on eight trials or more.

    Spearman's correlation r of n independent ranks is nearly normal with variance 1 / (n - 1).
    That only leaders of the first rung came to the second draws r towards 0, not below it.
    Both map trial numbers to values.
    """
    both = sorted(number for number in second if number in first)
    if len(both) < _MIN_PAIRS_TO_DISTRUST:
        return False
    early, late = (_centred_ranks(_values(both, values)) for values in (first, second))
    spread = math.sqrt(float(early @ early) * float(late @ late))
    return float(early @ late) * math.sqrt(len(both) - 1) < -_BEYOND_CHANCE * spread


def _centred_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the values' ranks less their mean; equal values share the mean of their ranks."""
    in_order = np.sort(values)
    ranks = in_order.searchsorted(values) + in_order.searchsorted(values, side="right")
    return (ranks - len(values)).astype(np.float64)


def _values(numbers: Sequence[int], values: Mapping[int, float]) -> NDArray[np.float64]:
    """The values of some trials; NaN as the worst."""
    return np.nan_to_num([values[number] for number in numbers], nan=-np.inf)


def promotion_rates(rungs: Sequence[int], max_resource: int, first_share: float) -> list[float]:
    """Return m_i / n_0 for each rung: the share of the first rung's results promoted there."""
    rates = [first_share]
    ends = [*rungs[1:], max_resource]
    for rung, end in list(zip(rungs, ends, strict=True))[1:]:
        rates.append(min(1.0, _UPPER_SHARE * rungs[0] / (end - rung)))
    return rates[: len(rungs)]


def n_promoted(rung: int, share: float) -> int:
    """Return how many trials may pass a rung for a share of the results, a whole number or not.

    The share is rounded down, except that above the first rung one half is enough for the first
    trial: a study of few trials would otherwise end before anything but its first leader went on.
    """
    if rung > 0 and 0.5 <= share < 1:
        return 1
    return int(share + 1e-9)


@dataclass(frozen=True)
class Field:
    """What stands at the rungs that count.

    Attributes:
        values: for each rung the values ever seen there.
        paused: for each rung the numbers of the trials that wait there to be continued.
        rates: for each rung its m_i / n_0.
    """

    values: Sequence[RungValues]
    paused: Sequence[Collection[int]]
    rates: Sequence[float]

    def promoted(self) -> list[int]:
        """Return the paused trials to be promoted, those of the highest rung first."""
        n_first = len(self.values[0]) if self.values else 0
        return self._waiting([n_promoted(i, n_first * rate) for i, rate in enumerate(self.rates)])

    def leaders(self) -> list[int]:
        """Return all paused trials, the best of the highest rung first."""
        return self._waiting([None] * len(self.values))

    def _waiting(self, n_best: Sequence[int | None]) -> list[int]:
        """Return who waits among the `n_best` of each rung, the highest rung first."""
        return [
            number
            for i in reversed(range(len(self.values)))
            if self.paused[i] and n_best[i] != 0
            for number in self.values[i].best(n_best[i])
            if number in self.paused[i]
        ]

    def by_distance(self) -> list[int]:
        """Return the paused trials in the order in which a growing study would promote them."""
        needed = [
            ((0.5 if rank == 0 and i > 0 else rank + 1) / rate, -i, number)
            for i, rate in enumerate(self.rates)
            for rank, number in enumerate(self.values[i].best())
            if number in self.paused[i]
        ]
        return [number for _, _, number in sorted(needed)]

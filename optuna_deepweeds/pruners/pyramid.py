"""Freeze and thaw: which paused trial is worth going on with, if any.

Plain functions of what stands at the rungs; values are in the direction "larger is better".

    G_i    resource of rung i, G_{last + 1} is a full training
    n_0    number of results at the first rung
    m_i    quota: the best m_i of all values ever seen at rung i may go on
    f_0    share of the first rung's results that may go on

Every rung above the first is given the same number of epochs in total, which makes the quotas
m_i = n_0 * f * G_0 / (G_{i+1} - G_i). A trial whose quota is not open yet stays paused, and goes
on as soon as enough new trials have come in below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

_UPPER_SHARE = 0.25


def quota_rates(
    rungs: Sequence[int], max_resource: int, first_share: float, upper_share: float = _UPPER_SHARE
) -> list[float]:
    """Return m_i / n_0 for each rung: how fast its quota grows."""
    rates = [first_share]
    ends = [*rungs[1:], max_resource]
    for rung, end in list(zip(rungs, ends, strict=True))[1:]:
        rates.append(min(1.0, upper_share * rungs[0] / (end - rung)))
    return rates[: len(rungs)]


def ranks(values: Mapping[int, float], numbers: Sequence[int]) -> list[int]:
    """Return how many of `values` are better than that of each trial in `numbers`.

    NaN is worse than every number; of equal values the earlier trial's is the better one.
    """
    order = np.fromiter(values, dtype=np.int64, count=len(values))
    worst_last = np.fromiter(values.values(), dtype=float, count=len(values))
    worst_last = np.nan_to_num(worst_last, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    best_first = order[np.lexsort((order, -worst_last))]
    position = {int(number): rank for rank, number in enumerate(best_first)}
    return [position[number] for number in numbers]


def open_promotions(
    values: Sequence[Mapping[int, float]], paused: Mapping[int, int], rates: Sequence[float]
) -> list[int]:
    """Return the paused trials within their rung's quota, those of the highest rung first.

    Args:
        values: for each rung the values ever seen there, by trial number.
        paused: rung index of each trial that may be continued, by number.
        rates: for each rung its quota as a share of the results at the first rung.
    """
    n_first = len(values[0]) if values else 0
    numbers: list[int] = []
    for rung in reversed(range(len(values))):
        quota = int(n_first * rates[rung] + 1e-9)
        here = [n for n, r in paused.items() if r == rung]
        if quota and here:
            ranked = sorted(zip(ranks(values[rung], here), here, strict=True))
            numbers += [n for rank, n in ranked if rank < quota]
    return numbers


def leaders(values: Sequence[Mapping[int, float]], paused: Mapping[int, int]) -> list[int]:
    """Return all paused trials, the best of the highest rung first."""
    numbers: list[int] = []
    for rung in reversed(range(len(values))):
        here = [n for n, r in paused.items() if r == rung]
        numbers += [n for _, n in sorted(zip(ranks(values[rung], here), here, strict=True))]
    return numbers


def by_distance_to_promotion(
    values: Sequence[Mapping[int, float]], paused: Mapping[int, int], rates: Sequence[float]
) -> list[int]:
    """Return the paused trials in the order in which growing quotas would reach them."""
    needed: list[tuple[float, int, int]] = []
    for rung, rate in enumerate(rates):
        here = [n for n, r in paused.items() if r == rung]
        for rank, number in zip(ranks(values[rung], here), here, strict=True):
            needed.append(((rank + 1) / rate, -rung, number))
    return [number for _, _, number in sorted(needed)]


def first_allowed(numbers: Sequence[int], is_allowed: Callable[[int], bool]) -> int | None:
    """Return the first of `numbers` that is allowed; the test may be costly."""
    return next((number for number in numbers if is_allowed(number)), None)

"""Freeze and thaw: which paused trial is worth going on with, if any.

Plain functions of what stands at the rungs; values are in the direction "larger is better".

    G_i    resource of rung i, G_{last + 1} is a full training
    n_0    number of results at the first rung
    m_i    quota: the best m_i of all values ever seen at rung i may go on
    f_0    share of the first rung's results that may go on

Every rung above the first is given the same number of epochs in total, which makes the quotas
m_i = n_0 * f * G_0 / (G_{i+1} - G_i), rounded as `quota` tells. A trial whose quota is not open
yet stays paused, and goes on as soon as enough new trials have come in below it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from optuna_deepweeds.pruners.rungs import RungValues

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


def quota(rung: int, share: float) -> int:
    """Return how many trials may pass a rung for a share of the results, a whole number or not.

    The share is rounded down, except that above the first rung one half is enough for the first
    trial: a study of few trials would otherwise end before anything but its first leader went on.
    """
    if rung > 0 and 0.5 <= share < 1:
        return 1
    return int(share + 1e-9)


def open_promotions(
    values: Sequence[RungValues], paused: Sequence[Collection[int]], rates: Sequence[float]
) -> list[int]:
    """Return the paused trials within their rung's quota, those of the highest rung first.

    Args:
        values: for each rung the values ever seen there.
        paused: for each rung the numbers of the trials that wait there to be continued.
        rates: for each rung its quota as a share of the results at the first rung.
    """
    n_first = len(values[0]) if values else 0
    quotas = [quota(rung, n_first * rate) for rung, rate in enumerate(rates)]
    return [
        number
        for rung in reversed(range(len(values)))
        if quotas[rung] and paused[rung]
        for number in values[rung].best(quotas[rung])
        if number in paused[rung]
    ]


def leaders(values: Sequence[RungValues], paused: Sequence[Collection[int]]) -> list[int]:
    """Return all paused trials, the best of the highest rung first."""
    return [
        number
        for rung in reversed(range(len(values)))
        if paused[rung]
        for number in values[rung].best()
        if number in paused[rung]
    ]


def by_distance_to_promotion(
    values: Sequence[RungValues], paused: Sequence[Collection[int]], rates: Sequence[float]
) -> list[int]:
    """Return the paused trials in the order in which growing quotas would reach them."""
    needed = [
        ((0.5 if rank == 0 and rung > 0 else rank + 1) / rate, -rung, number)
        for rung, rate in enumerate(rates)
        for rank, number in enumerate(values[rung].best())
        if number in paused[rung]
    ]
    return [number for _, _, number in sorted(needed)]


def first_allowed(numbers: Sequence[int], is_allowed: Callable[[int], bool]) -> int | None:
    """Return the first of `numbers` that is allowed; the test may be costly."""
    return next((number for number in numbers if is_allowed(number)), None)

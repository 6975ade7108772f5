"""Rungs: the resources at which trials are compared, and who goes on from there.

Plain functions; values are in the direction "larger is better".

    G_i    resource of rung i = 0, 1, ...; G_{last + 1} is a full training
    h_i    G_{i + 1} - G_i, what it costs to go on from rung i
    n      number of trials that came to the first rung
    w      worth of a trial at a rung, see `trials.worths`
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.trials import are_opposed

_SHARE = 0.25
_MIN_TO_LEAD = 4
_LEADERS_SHARE = 0.5
_PROBE_SHARE = 0.2


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


@dataclass(frozen=True)
class Field:
    """Where the m trials of a study stand.

    Attributes:
        rungs: G_0, G_1, ..., and the resource of a full training.
        numbers: (m,) the trials' numbers.
        reached: (m,) index of the last rung that each came to; -1 before the first.
        worth: (m, len(rungs)) w at each rung; NaN where a trial has not come.
        epochs: (m,) steps trained.
        is_paused: (m,) whether a trial waits to be continued.
        is_running: (m,) whether it is being trained.
        is_probe: (m,) whether its sampler asks to let it go on whatever its rank.
        n_passed: How many rungs mislead, as `n_misleading` tells of earlier trials.
    """

    rungs: Sequence[int]
    numbers: NDArray[np.int64]
    reached: NDArray[np.int64]
    worth: NDArray[np.float64]
    epochs: NDArray[np.int64]
    is_paused: NDArray[np.bool_]
    is_running: NDArray[np.bool_]
    is_probe: NDArray[np.bool_]
    n_passed: int = 0

    def trusted(self) -> tuple[Field, list[int]]:
        """Return the field from the first rung on at which trials should be told apart.

        A rung misleads when the trials that went on from it stand in the opposite order at the
        next one. Then all rungs up to it are passed by every trial. That brings trials of all
        ranks to the next rung, so that a wrong suspicion is soon refuted.

        Returns:
            The field, and those that paused before its first rung, the latest first.
        """
        first = self.n_passed
        for i in range(len(self.rungs) - 2):
            pairs = self.worth[self.reached > i, i : i + 2]
            pairs = pairs[~np.isnan(pairs).any(axis=1)]
            if are_opposed(pairs[:, 0].tolist(), pairs[:, 1].tolist()):
                first = max(first, i + 1)
        reached = np.maximum(self.reached - first, -1)
        before = np.flatnonzero(self.is_paused & (reached < 0))
        field = replace(
            self,
            rungs=self.rungs[first:],
            reached=reached,
            worth=self.worth[:, first:],
            is_paused=self.is_paused & (reached >= 0),
            n_passed=0,
        )
        return field, sorted(before.tolist(), reverse=True)

    @cached_property
    def n(self) -> int:
        """Number of trials that came to the first rung."""
        return int((self.reached >= 0).sum())

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """(r,) for each rung the share of n that may go on from it.

        A quarter from the first one; from the others G_0 / (4 h_i), so that each of them is given
        the same number of steps in total.
        """
        rates = _SHARE * self.rungs[0] / np.diff(self.rungs)
        rates[:1] = _SHARE
        return rates

    @cached_property
    def goes_beyond(self) -> NDArray[np.int64]:
        """(m,) index of the last rung from which each went on."""
        return np.where(self.is_running, self.reached, self.reached - 1)

    def ranked(self, rung: int) -> NDArray[np.int64]:
        """Return the trials that came to a rung, best first; of equals who went on already."""
        here = np.flatnonzero(self.reached >= rung)
        stays = self.goes_beyond[here] < rung
        return here[np.lexsort((self.numbers[here], stays, -self.worth[here, rung]))]

    def within_quota(self) -> Iterator[int]:
        """Yield the paused trials that are within the quota of their rung, highest rung first."""
        for rung in reversed(range(len(self.rungs) - 1)):
            for trial in self.ranked(rung)[: n_promoted(rung, self.n * self.rates[rung])]:
                if self.is_paused[trial] and self.reached[trial] == rung:
                    yield int(trial)

    def probes(self) -> list[int]:
        """Return the paused probes that go on to the second rung, if that is near enough."""
        if len(self.rungs) < 2 or self.rungs[1] > _PROBE_SHARE * self.rungs[-1]:
            return []
        return np.flatnonzero(self.is_paused & self.is_probe & (self.reached == 0)).tolist()

    def leaders(self) -> list[int]:
        """Return the paused trials by their present worth, best first."""
        waiting = np.flatnonzero(self.is_paused)
        worth = self.worth[waiting, self.reached[waiting]]
        order = np.lexsort((self.numbers[waiting], -self.reached[waiting], -worth))
        return waiting[order].tolist()

    def may_lead(self, best: float | None) -> bool:
        """Tell whether the leader may go on beyond the quotas.

        Args:
            best: worth of the best finished trial; None if there is none.
        """
        full = self.rungs[-1]
        if self.n < _MIN_TO_LEAD or 2 * self.n * self.rungs[0] < full:
            return False
        if best is None:
            return not (self.is_running & (self.reached >= 0)).any()
        gone_on = (self.goes_beyond[:, None] >= np.arange(len(self.rungs) - 1)).sum(axis=0)
        beyond_quotas = np.maximum(0.0, gone_on - self.n * self.rates) @ np.diff(self.rungs)
        return bool(beyond_quotas < _LEADERS_SHARE * self.epochs.sum())

    def by_distance(self) -> list[int]:
        """Return the paused trials in the order in which a growing study would promote them."""
        needed = [
            ((0.5 if rank == 0 and rung > 0 else rank + 1) / rate, -rung, int(trial))
            for rung, rate in enumerate(self.rates)
            for rank, trial in enumerate(self.ranked(rung))
            if self.is_paused[trial] and self.reached[trial] == rung
        ]
        return [trial for _, _, trial in sorted(needed)]


def n_misleading(worth: NDArray[np.float64]) -> int:
    """Return how many rungs are no help to tell good trials apart, by trials trained to the end.

    These are the rungs up to the last one at which those of the better half that were ahead came
    to less: others are behind from the first step on, which says nothing about the best.

    Args:
        worth: (m, r) w of full trainings at each rung and at the end.
    """
    half = worth[np.argsort(-worth[:, -1], kind="stable")[: (len(worth) + 1) // 2]]
    ends = half[:, -1].tolist()
    opposed = [are_opposed(w.tolist(), ends, beyond_chance=False) for w in half.T[:-1]]
    return max((i + 1 for i, is_opposed in enumerate(opposed) if is_opposed), default=0)


def n_promoted(rung: int, share: float) -> int:
    """Return how many trials may pass a rung for a share of the results, a whole number or not.

    The share is rounded down, except that above the first rung one half is enough for the first
    trial: a study of few trials would otherwise end before anything but its first leader went on.
    """
    if rung > 0 and 0.5 <= share < 1:
        return 1
    return int(share + 1e-9)


def outlook(max_resource: int) -> str:
    """Say in a sentence what `DoraPruner` with `thaw` will do with trainings of this length."""
    steps = rung_steps(1, max_resource, 3)
    if not steps:
        return "trainings are too short to stop any early"
    if len(steps) == 1:
        return f"pauses every trial after epoch {steps[0]} and goes on with the best"
    n = max(_MIN_TO_LEAD, math.ceil(max_resource / 2))
    each = 1 + _SHARE * (len(steps) + 1)
    return (
        f"pauses every trial after epochs {', '.join(map(str, steps))} and goes on with the "
        f"best: about {each:.1f} of {max_resource} epochs each, the first trained to the end "
        f"once {n} have begun"
    )

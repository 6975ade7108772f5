"""DORA: stop a trial when the anticipated end of its learning curve is not worth the epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.attributes import ANTICIPATION, RUNG
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners.forecast import (
    Forecast,
    GainPrior,
    PriorCurves,
    anticipation_bound,
    forecast_final,
)
from optuna_deepweeds.pruners.history import Histories, History, Record, sign_of, write
from optuna_deepweeds.pruners.rungs import (
    RungValues,
    by_distance_to_promotion,
    first_allowed,
    first_trusted,
    informed_share,
    is_in_top,
    leaders,
    open_promotions,
    promotion_rates,
    rung_steps,
    value_at,
)


@dataclass(frozen=True)
class Standing:
    """A running trial at its last report; values in the direction "larger is better"."""

    trial: FrozenTrial
    curve: dict[int, float]
    step: int
    sign: float

    @property
    def value(self) -> float:
        return self.curve[self.step]


def store(
    study: Study,
    standing: Standing,
    crossed: Mapping[int, float],
    forecast: Forecast | None,
    incumbent: float | None,
    decision: str,
    reason: str,
) -> None:
    """Store the values at rungs, and show what was foreseen; in the study's own direction.

    Args:
        study: The trial's study.
        standing: The trial.
        crossed: Its value at each rung just reached; system attributes, by which others decide.
        forecast: What is expected of its final value; None if nothing is.
        incumbent: The best final value so far.
        decision: "continue", "pause" or "stop".
        reason: Why, in words.
    """
    sign = standing.sign
    expected: float | None = standing.value if forecast is None else forecast.expected
    if expected is not None and not math.isfinite(expected):
        expected = None
    ends = [] if forecast is None else sorted((sign * forecast.low, sign * forecast.high))
    low, high = ends or (None, None)
    attribute = {
        "epoch": standing.step,
        "expected": None if expected is None else sign * expected,
        "low": low,
        "high": high,
        "incumbent": None if incumbent is None else sign * incumbent,
        "decision": decision,
        "reason": reason,
    }
    marks = {
        f"{RUNG}{rung}": sign * value if math.isfinite(value) else None  # JSON has no NaN
        for rung, value in crossed.items()
    }
    write(study._storage, standing.trial._trial_id, marks, {ANTICIPATION: attribute})


_MIN_GAINS_TO_STOP = 5
_N_PRIOR_RIVALS = 6
_MIN_TO_JUDGE_PRIORS = 2
_FIRST_LEADER_AFTER = 12
_FIRST_LEADER_AFTER_WITH_WORKERS = 8


class DoraPruner(BasePruner):
    """Prunes by successive halving and by an upper bound on the anticipated final value.

    A trial is stopped when it is not among the best `1 / reduction_factor` of the values seen at
    a rung (`min_resource` times the powers of `reduction_factor`); when, from a tenth of
    `max_resource` and from five finished trials on, the upper end of its forecast final value is
    below the best final value so far; and when it reports NaN or infinity.

    Rungs at which the trials that went on stood in the opposite order of the next rung are passed
    by all (see `rungs.first_trusted`): there the first epochs mislead.

    With `thaw`, a trial pauses at each rung unless it is the one that is worth going on with now;
    `next_continuation` names a paused trial to go on with before a new one is started.

    The pruner keeps nothing that decides in the object: values at rungs are system attributes of
    the trials, so any process comes to the same decision. What it foresaw is the user attribute
    `deepweeds:anticipation`, whose `expected` is a forecast of the final value that a stopped
    trial would have reached.

    Args:
        max_resource: the step of a full training's last report.
        min_resource: the first rung.
        reduction_factor: ratio of neighbouring rungs; one in this many passes a later rung.
        first_share: share of the values at the first rung that passes it; None lets it depend
            on how well the first rung has foretold the second (see `rungs.informed_share`).
        prior_curves: curves of the same task in the study's own units and direction, each the
            values of consecutive steps from the first one on. They inform the forecast before
            any trial has finished, and stand in for trials at a rung that has seen few, unless
            the study's own values lie clearly below them; both fade as these come in. Curves
            shorter than `max_resource` are left out.
        related_curves: for each of some other tasks its curves, in any units in which better
            goes the way it goes in the study. They are used without `prior_curves`, from five
            values at the first rung on, once their distribution is matched to these.
        thaw: pause trials instead of stopping them, to be continued later.
        is_continuable: tells whether a paused trial's checkpoint still exists.

    Raises:
        InvalidInputError: A resource or the reduction factor is out of range.
    """

    def __init__(
        self,
        *,
        max_resource: int,
        min_resource: int = 1,
        reduction_factor: int = 3,
        prior_curves: Sequence[ArrayLike] | None = None,
        related_curves: Sequence[Sequence[ArrayLike]] | None = None,
        thaw: bool = False,
        is_continuable: Callable[[FrozenTrial], bool] | None = None,
        first_share: float | None = None,
    ) -> None:
        if min_resource < 1:
            raise InvalidInputError(f"`min_resource >= 1` must hold, but got {min_resource}.")
        if max_resource < min_resource:
            raise InvalidInputError(
                "`max_resource >= min_resource` must hold, but got "
                f"max_resource={max_resource}, min_resource={min_resource}."
            )
        if reduction_factor < 2:
            raise InvalidInputError(
                f"`reduction_factor >= 2` must hold, but got {reduction_factor}."
            )
        if first_share is not None and not 0 < first_share <= 1:
            raise InvalidInputError(
                f"`first_share` must be within 0 (excluded) and 1, but got {first_share}."
            )
        self._max_resource = max_resource
        self._reduction_factor = reduction_factor
        self._rungs = rung_steps(min_resource, max_resource, reduction_factor)
        self._first_bound_step = max(min_resource, 3, max_resource / 10)
        self._thaw = thaw
        self._is_continuable = is_continuable
        self._first_share = first_share
        self._priors = PriorCurves(
            () if prior_curves is None else prior_curves,
            () if related_curves is None else related_curves,
            max_resource,
        )
        self._histories = Histories()

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial should stop after its last report."""
        sign = sign_of(study)
        curve = {step: sign * value for step, value in trial.intermediate_values.items()}
        if not curve:
            return False
        standing = Standing(trial, curve, max(curve), sign)
        if not math.isfinite(standing.value):
            store(study, standing, {}, None, None, "stop", "the report is not finite")
            return True
        if standing.step >= self._max_resource:
            return False
        is_at_rung = any(
            standing.step == min(step for step in curve if step >= rung)
            for rung in self._rungs
            if rung <= standing.step
        )
        if not is_at_rung and standing.step < self._first_bound_step:
            return False

        history = self._histories.read(study)
        crossed = self._cross_rungs(history, standing)
        forecast = self._forecast(history, standing.step, standing.value)
        decision = "continue"
        reason = ""
        if not self._is_worth(history, standing.step, standing.value):
            decision, reason = "stop", "its forecast stays below the best final value"
        elif crossed and max(crossed) < (first := self._first_rung(history)):
            reason = f"the order of the trials changed after step {max(crossed)}"
        elif crossed and self._thaw:
            if self._choose(study, history, standing) != trial.number:
                decision, reason = "pause", f"others go first at step {max(crossed)}"
        elif crossed:
            for rung in self._rungs_that_count(history, standing, crossed, first):
                share = self._share(history, rung, first)
                if not self._passes(history, standing, rung, share):
                    decision = "stop"
                    reason = f"not among the best {share:.0%} at step {rung}"
        if crossed or decision != "continue":
            incumbent = history.best_final()
            store(study, standing, crossed, forecast, incumbent, decision, reason)
        return decision != "continue"

    def next_continuation(self, study: Study, *, is_closing: bool = False) -> FrozenTrial | None:
        """Return the paused trial to continue now, or None to start a new configuration.

        To be called under a lock that also covers the creation of the continuing trial: the
        paused trial counts as taken once a trial names it as its origin.

        Args:
            is_closing: no new configuration will be started any more. Then a study in which
                nothing has finished continues its best trial, however few there are, and one
                in which a paused trial is ahead of all that finished continues that, so that it
                does not end with its best unfinished; None means that nothing is left to do.
        """
        if not self._thaw:
            return None
        history = self._histories.read(study)
        number = self._choose(study, history, None, is_closing=is_closing)
        return None if number is None else self._paused_trial(study, history, number)

    def promising(self, study: Study, k: int = 50) -> list[int]:
        """Return the numbers of the `k` paused trials that are likeliest to be continued."""
        if not self._thaw:
            return []
        history = self._histories.read(study)
        first = self._first_rung(history)
        rungs = [rung for rung in self._rungs if rung >= first]
        paused = [history.paused_at(rung) for rung in rungs]
        values = [self._values(history, rung, first) for rung in rungs]
        ranked = by_distance_to_promotion(values, paused, self._promotion_rates(history, first))
        return [*ranked, *self._passed_over(history, first)][:k]

    def _cross_rungs(self, history: History, standing: Standing) -> dict[int, float]:
        """Return the values at rungs just reached, or reached without a mark; note them.

        Any later decision of this process takes them into account, others once they are stored.
        """
        marks = history.marks_of(standing.trial.number)
        crossed = {}
        for rung in self._rungs:
            if rung > standing.step:
                break
            is_here = standing.step == min(step for step in standing.curve if step >= rung)
            if is_here or rung not in marks:
                crossed[rung] = value_at(standing.curve, rung)
                history.note(standing.trial.number, rung, crossed[rung], standing.curve)
        return crossed

    def _first_rung(self, history: History) -> int:
        """Return the first rung at which trials are told apart; 0 without rungs."""
        if not self._rungs:
            return 0
        return self._rungs[first_trusted([history.at_rung(r).by_number for r in self._rungs])]

    def _share(self, history: History, rung: int, first: int) -> float:
        """Return the share of the values at a rung that passes it."""
        if rung != first:
            return 1 / self._reduction_factor
        if self._first_share is not None:
            return self._first_share
        second = next((later for later in self._rungs if later > first), None)
        later_values = {} if second is None else self._values(history, second, first).by_number
        return informed_share(self._values(history, first, first).by_number, later_values)

    def _promotion_rates(self, history: History, first: int) -> list[float]:
        rungs = [rung for rung in self._rungs if rung >= first]
        if not rungs:
            return []
        return promotion_rates(rungs, self._max_resource, self._share(history, first, first))

    def _passed_over(self, history: History, first: int) -> list[int]:
        """Return the trials that paused before the first rung that counts, the latest first."""
        rungs = [rung for rung in reversed(self._rungs) if rung < first]
        return [number for r in rungs for number in sorted(history.paused_at(r), reverse=True)]

    def _rungs_that_count(
        self, history: History, standing: Standing, crossed: Collection[int], first: int
    ) -> list[int]:
        """Return the rungs just reached at which the trial must be among the best.

        Wrong prior curves may have stopped all that came to a rung, and left a bar there that no
        trial gets over. So the first leader need not pass more than one.
        """
        number = standing.trial.number
        is_leader = self._priors.has_same and self._needs_leader(history, number, first, False)
        return [rung for rung in crossed if rung == first or (rung > first and not is_leader)]

    def _passes(self, history: History, standing: Standing, rung: int, share: float) -> bool:
        reached = {r: history.at_rung(r).by_number for r in self._rungs if r <= rung}
        seen = reached[rung]
        rivals = [value for number, value in seen.items() if number != standing.trial.number]
        # At the first rung a wrong prior costs the first trials a few epochs, and their values
        # show whether it is wrong; later it could stop every leader.
        if len(rivals) < _N_PRIOR_RIVALS and (
            (rung == self._rungs[0] and len(rivals) < _MIN_TO_JUDGE_PRIORS)
            or self._priors.agree(history.sign, reached)
        ):
            rivals += self._priors.rung_values(rung, history.sign, _N_PRIOR_RIVALS - len(rivals))
        return is_in_top(seen[standing.trial.number], rivals, share)

    def _values(self, history: History, rung: int, first: int) -> RungValues:
        """Return what the trials are ranked by at a rung.

        Paused trials are ranked against all that ever came, so that a lucky report would count
        for ever. Means of several reports are therefore compared, unless early reports mislead.
        """
        if self._thaw and first == self._rungs[0]:
            return history.means_at(rung)
        return history.at_rung(rung)

    def _first_values(self, history: History) -> list[float]:
        return list(history.at_rung(self._rungs[0]).by_number.values()) if self._rungs else []

    def _gain_prior(self, history: History, step: int) -> GainPrior | None:
        first_values = self._first_values(history) if self._priors.is_related else []
        return self._priors.gains(min(step, self._max_resource), history.sign, first_values)

    def _forecast(self, history: History, step: int, value: float) -> Forecast | None:
        return forecast_final(value, history.gains_after(step), self._gain_prior(history, step))

    def _is_worth(self, history: History, step: int, value: float) -> bool:
        """Tell whether the curve may still beat the best final value.

        Three gains are enough to show a forecast, but too few to stop by it: those of the first
        trials to finish are alike by chance more often than the interval allows for.
        """
        incumbent = history.best_final()
        if incumbent is None or step < self._first_bound_step:
            return True
        prior = self._gain_prior(history, step)
        n_known = len(history.gains_after(step)) + (0 if prior is None else prior.worth)
        if n_known < _MIN_GAINS_TO_STOP:
            return True
        forecast = self._forecast(history, step, value)
        return forecast is None or anticipation_bound(value, forecast) >= incumbent

    def _choose(
        self,
        study: Study,
        history: History,
        standing: Standing | None,
        *,
        is_closing: bool = False,
    ) -> int | None:
        """Return the number of the trial to go on with: a paused one, or the one in `standing`."""
        own = None if standing is None else standing.trial.number
        first = self._first_rung(history)
        rungs = [rung for rung in self._rungs if rung >= first]
        values = [self._values(history, rung, first) for rung in rungs]
        paused: list[Collection[int]] = [history.paused_at(rung) for rung in rungs]
        if standing is not None:
            i = max(i for i, rung in enumerate(rungs) if rung <= standing.step)
            paused[i] = {*paused[i], standing.trial.number}

        def is_allowed(number: int) -> bool:
            if number == own:
                return True
            step = max(self._paused(history, number).curve)
            if not self._is_worth(history, step, self._last_value(history, number)):
                return False
            if self._is_continuable is None:
                return True
            return self._is_continuable(self._paused_trial(study, history, number))

        candidates = open_promotions(values, paused, self._promotion_rates(history, first))
        incumbent = history.best_final()
        if is_closing and incumbent is not None:
            ahead = [
                number
                for number in leaders(values, paused)
                if self._last_value(history, number) > incumbent
            ]
            candidates = [*ahead, *candidates]
        chosen = first_allowed(candidates, is_allowed)
        if chosen is None and self._needs_leader(history, own, first, is_closing):
            chosen = first_allowed(leaders(values, paused), is_allowed)
        if chosen is None and standing is None:
            # They need fewer epochs to the first rung that counts than a new configuration.
            chosen = first_allowed(self._passed_over(history, first), is_allowed)
        return chosen

    def _needs_leader(
        self, history: History, own: int | None, first: int, is_closing: bool
    ) -> bool:
        """Tell whether one trial should be trained to the end, whoever is promoted.

        A first result makes forecasts possible, and a short study must not end without one.
        """
        if history.n_finished:
            return False
        others = [record for record in history.live if record.number != own]
        n_workers = 1 + sum(record.state == TrialState.RUNNING for record in others)
        n_needed = _FIRST_LEADER_AFTER if n_workers == 1 else _FIRST_LEADER_AFTER_WITH_WORKERS
        if len(history.at_rung(first)) < n_needed and not is_closing:
            return False
        return not any(rung >= first for record in others for rung in record.marks)

    def _paused(self, history: History, number: int) -> Record:
        return next(p[number] for p in map(history.paused_at, self._rungs) if number in p)

    def _last_value(self, history: History, number: int) -> float:
        curve = self._paused(history, number).curve
        return history.sign * curve[max(curve)]

    def _paused_trial(self, study: Study, history: History, number: int) -> FrozenTrial:
        return study._storage.get_trial(self._paused(history, number).trial_id)

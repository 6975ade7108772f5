"""DORA: stop a trial when the anticipated end of its learning curve is not worth the epochs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Sequence

from numpy.typing import ArrayLike
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import trials
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners.forecast import (
    Forecast,
    GainPrior,
    PriorCurves,
    anticipation_bound,
    forecast_final,
)
from optuna_deepweeds.pruners.history import Histories, History, Standing, marks_of, store
from optuna_deepweeds.pruners.rungs import (
    Field,
    first_trusted,
    is_in_top,
    promotion_rates,
    rung_steps,
    value_at,
)
from optuna_deepweeds.schema import require, require_whole

_MIN_GAINS_TO_STOP = 5
_N_PRIOR_RIVALS = 6
_MIN_TO_JUDGE_PRIORS = 2
_FIRST_LEADER_AFTER = 12
_FIRST_LEADER_AFTER_WITH_WORKERS = 8

_LOG = logging.getLogger(__name__)


class DoraPruner(BasePruner):
    """Prunes by successive halving and by an upper bound on the anticipated final value.

    A trial is stopped when it is not among the best `1 / reduction_factor` of the values seen at
    a rung (`min_resource` times the powers of `reduction_factor`; at the first one, not among the
    best `first_share`); when, from a tenth of `max_resource` and from five finished trials on,
    the upper end of its forecast final value is below the best final value so far; and when it
    reports NaN or infinity.

    Rungs at which the trials that went on stood in the opposite order of the next rung are passed
    by all (see `rungs.first_trusted`): there the first epochs mislead.

    With `thaw`, a trial pauses at each rung unless it is the one that is worth going on with now;
    `next_continuation` names a paused trial to go on with before a new one is started. A loop
    that does not ask for it, such as `study.optimize`, would pause everything, and is refused.

    The pruner keeps nothing that decides in the object: values at rungs are system attributes of
    the trials, so any process comes to the same decision. What it foresaw is the user attribute
    `deepweeds:anticipation`, whose `expected` is a forecast of the final value that a stopped
    trial would have reached. Threads may share it.

    Args:
        max_resource: the step of a full training's last report.
        min_resource: the first rung.
        reduction_factor: ratio of neighbouring rungs; one in this many passes a later rung.
        first_share: share of the values at the first rung that passes it.
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
        InvalidInputError: A resource or the reduction factor is no whole number or out of range.
    """

    def __init__(
        self,
        *,
        max_resource: int,
        min_resource: int = 1,
        reduction_factor: int = 3,
        first_share: float = 1 / 5,
        prior_curves: Sequence[ArrayLike] | None = None,
        related_curves: Sequence[Sequence[ArrayLike]] | None = None,
        thaw: bool = False,
        is_continuable: Callable[[FrozenTrial], bool] | None = None,
    ) -> None:
        require_whole("min_resource", min_resource, at_least=1)
        require_whole("max_resource", max_resource)
        require(
            max_resource >= min_resource,
            "max_resource >= min_resource",
            max_resource=max_resource,
            min_resource=min_resource,
        )
        require_whole("reduction_factor", reduction_factor, at_least=2)
        is_number = isinstance(first_share, int | float)
        require(
            is_number and 0 < first_share <= 1, "0 < first_share <= 1", first_share=first_share
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
        # A loop that continues trials shows by asking, or by telling what can be continued.
        self._is_asked = is_continuable is not None
        self._has_warned = False
        self._last_seen = (-1, -1, 0)  # id of a trial, its last step, number of its reports

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial should stop after its last report.

        Raises:
            InvalidInputError: With `thaw`, in a loop that continues nothing.
        """
        if not trial.intermediate_values:
            return False
        if self._thaw and not self._is_asked:
            raise InvalidInputError(
                "`thaw=True` needs a loop that calls `next_continuation(study)` before every "
                "`study.ask()` and goes on with the trial it names, as the workers of `study run` "
                "do; `study.optimize` does not. Leave `thaw` out there."
            )
        sign = trials.sign(study.direction)
        curve = {step: sign * value for step, value in trial.intermediate_values.items()}
        standing = Standing(trial, curve, max(curve))
        if not math.isfinite(standing.value):
            store(study, standing, sign, {}, None, None, "stop", "the report is not finite")
            return True
        self._warn_of_steps(standing)
        if standing.step >= self._max_resource:
            return False
        is_at_rung = any(
            standing.step == min(step for step in curve if step >= rung)
            for rung in self._rungs
            if rung <= standing.step
        )
        if not is_at_rung and standing.step < self._first_bound_step:
            return False
        with self._histories.of(study) as history:
            return self._decide(study, history, standing)

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
        self._is_asked = True
        if not self._thaw:
            return None
        with self._histories.of(study) as history:
            number = self._choose(history, None, is_closing=is_closing)
            return None if number is None else history.paused_trial(number)

    def promising(self, study: Study, k: int = 50) -> list[int]:
        """Return the numbers of the `k` paused trials that are likeliest to be continued."""
        if not self._thaw:
            return []
        with self._histories.of(study) as history:
            first = self._first_rung(history)
            ranked = self._field(history, first, None).by_distance()
            return [*ranked, *self._passed_over(history, first)][:k]

    def _warn_of_steps(self, standing: Standing) -> None:
        """Say once if the steps that a study reports leave nothing to decide."""
        if self._has_warned:
            return
        now = (standing.trial._trial_id, standing.step, len(standing.curve))
        before, self._last_seen = self._last_seen, now
        if min(standing.curve) > self._max_resource:
            what = f"the first one, {min(standing.curve)}, is above max_resource"
        elif before[:2] == now[:2] and before[2] < now[2]:
            what = f"one after step {standing.step} is below it"
        else:
            return
        self._has_warned = True
        _LOG.warning(
            "DoraPruner needs steps that rise from 1 to max_resource=%d, but %s; it decides "
            "nothing there.",
            self._max_resource,
            what,
        )

    def _decide(self, study: Study, history: History, standing: Standing) -> bool:
        """Tell whether the trial should stop, and store what decided it."""
        crossed = self._cross_rungs(history, standing)
        forecast = self._forecast(history, standing.step, standing.value)
        decision = "continue"
        reason = ""
        if not self._is_worth(history, standing.step, standing.value):
            decision, reason = "stop", "its forecast stays below the best final value"
        elif crossed and max(crossed) < (first := self._first_rung(history)):
            reason = f"the order of the trials changed after step {max(crossed)}"
        elif crossed and self._thaw:
            if self._choose(history, standing) != standing.trial.number:
                decision, reason = "pause", f"others go first at step {max(crossed)}"
        elif crossed:
            for rung in self._rungs_that_count(history, standing, crossed, first):
                share = self._first_share if rung == first else 1 / self._reduction_factor
                if not self._passes(history, standing, rung, share):
                    decision = "stop"
                    reason = f"not among the best {share:.0%} at step {rung}"
        if crossed or decision != "continue":
            incumbent = history.best_final()
            store(study, standing, history.sign, crossed, forecast, incumbent, decision, reason)
        return decision != "continue"

    def _cross_rungs(self, history: History, standing: Standing) -> dict[int, float]:
        """Return the values at rungs just reached, or reached without a mark; note them.

        Any later decision of this process takes them into account, others once they are stored.
        """
        number = standing.trial.number
        marks = marks_of(history.live[number]) if number in history.live else {}
        crossed = {}
        for rung in self._rungs:
            if rung > standing.step:
                break
            is_here = standing.step == min(step for step in standing.curve if step >= rung)
            if is_here or rung not in marks:
                crossed[rung] = value_at(standing.curve, rung)
                history.note(number, rung, crossed[rung], standing.curve)
        return crossed

    def _first_rung(self, history: History) -> int:
        """Return the first rung at which trials are told apart; 0 without rungs."""
        if not self._rungs:
            return 0
        return self._rungs[first_trusted([history.values[r].by_number for r in self._rungs])]

    def _field(self, history: History, first: int, standing: Standing | None) -> Field:
        """Return what stands at the rungs that count; a trial in `standing` waits there too.

        Paused trials are ranked against all that ever came, so that a lucky report would count
        for ever. Means of several reports are therefore compared, unless early reports mislead.
        """
        rungs = [rung for rung in self._rungs if rung >= first]
        values = history.means if rungs and first == self._rungs[0] else history.values
        paused: list[Collection[int]] = [history.paused[rung] for rung in rungs]
        if standing is not None:
            i = max(i for i, rung in enumerate(rungs) if rung <= standing.step)
            paused[i] = {*paused[i], standing.trial.number}
        rates = promotion_rates(rungs, self._max_resource, self._first_share) if rungs else []
        return Field([values[rung] for rung in rungs], paused, rates)

    def _passed_over(self, history: History, first: int) -> list[int]:
        """Return the trials that paused before the first rung that counts, the latest first."""
        rungs = [rung for rung in reversed(self._rungs) if rung < first]
        return [number for r in rungs for number in sorted(history.paused[r], reverse=True)]

    def _rungs_that_count(
        self, history: History, standing: Standing, crossed: Collection[int], first: int
    ) -> list[int]:
        """Return the rungs just reached at which the trial must be among the best.

        Wrong prior curves may have stopped all that came to a rung, and left a bar there that no
        trial gets over. So the first leader need not pass more than one.
        """
        number = standing.trial.number
        is_leader = self._priors.has_same and self._needs_leader(history, number, first)
        return [rung for rung in crossed if rung == first or (rung > first and not is_leader)]

    def _passes(self, history: History, standing: Standing, rung: int, share: float) -> bool:
        reached = {r: history.values[r].by_number for r in self._rungs if r <= rung}
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

    def _gain_prior(self, history: History, step: int) -> GainPrior | None:
        is_asked_for = self._priors.is_related and self._rungs
        values = history.values[self._rungs[0]].by_number.values() if is_asked_for else ()
        return self._priors.gains(min(step, self._max_resource), history.sign, list(values))

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
        self, history: History, standing: Standing | None, *, is_closing: bool = False
    ) -> int | None:
        """Return the number of the trial to go on with: a paused one, or the one in `standing`."""
        own = None if standing is None else standing.trial.number
        first = self._first_rung(history)
        field = self._field(history, first, standing)

        def is_allowed(number: int) -> bool:
            if number == own:
                return True
            trial = history.paused_trial(number)
            step = max(trial.intermediate_values)
            if not self._is_worth(history, step, history.last_value(trial)):
                return False
            return self._is_continuable is None or self._is_continuable(trial)

        candidates = field.promoted()
        incumbent = history.best_final()
        if is_closing:
            last = {
                number: history.last_value(history.paused_trial(number))
                for number in field.leaders()
            }
            ahead = [n for n in last if incumbent is None or last[n] > incumbent]
            candidates = [*sorted(ahead, key=lambda n: -last[n]), *candidates]
        chosen = next(filter(is_allowed, candidates), None)
        if chosen is None and self._needs_leader(history, own, first):
            chosen = next(filter(is_allowed, field.leaders()), None)
        if chosen is None and standing is None:
            # They need fewer epochs to the first rung that counts than a new configuration.
            chosen = next(filter(is_allowed, self._passed_over(history, first)), None)
        return chosen

    def _needs_leader(self, history: History, own: int | None, first: int) -> bool:
        """Tell whether one trial should be trained to the end, whoever is promoted.

        A first result makes forecasts possible.
        """
        if history.n_finished:
            return False
        others = [trial for number, trial in history.live.items() if number != own]
        n_workers = 1 + sum(trial.state == TrialState.RUNNING for trial in others)
        n_needed = _FIRST_LEADER_AFTER if n_workers == 1 else _FIRST_LEADER_AFTER_WITH_WORKERS
        if len(history.values[first]) < n_needed:
            return False
        return not any(rung >= first for trial in others for rung in marks_of(trial))

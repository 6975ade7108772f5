"""DORA: pause every trial at each rung, and go on with the one that deserves it."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from optuna_deepweeds.attributes import ANTICIPATION, ENQUEUED_PRIOR
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners.forecast import forecast_final
from optuna_deepweeds.pruners.history import Histories, History
from optuna_deepweeds.pruners.rungs import rung_steps
from optuna_deepweeds.schema import require, require_whole

_LOG = logging.getLogger(__name__)


class DoraPruner(BasePruner):
    """Freezes trials and thaws the best: many configurations begin, few are trained to the end.

    With `thaw`, a trial pauses at every rung: after `min_resource` steps, three times, nine times
    as many and so on. Whoever is free then goes on with a paused trial or starts a new one. Trials
    are compared by their worth, the mean of the later half of their reports up to a rung, so
    that noise counts less. With n trials at the first rung, in this order:

    1. The leader: where n trials have cost half a full training, and are four at least, the
       paused trial of the largest worth goes on while nothing has finished, one at a time; later
       on if it is worth more than the best finished trial. Beyond the quotas below, leaders take
       half of all steps at most. So a small budget ends with something finished.
    2. The quotas: from the highest rung down, the best n / (4 h) of all trials that ever came
       to a rung may go on from it, h being what that costs in units of `min_resource`, and the
       best n / 4 from the first one. So each later rung is given the same number of steps in
       total, a quarter of what first steps cost. Of equal ones those that went on already count
       first.
    3. Otherwise a new configuration starts.

    Before the quotas come probes, one in eight of what `rf_ei` suggests by curves: they go on to
    the second rung whatever their rank, where that is a fifth of a training at most, so that
    sampler and rule notice where the order at first steps is not that of later ones.

    Rungs at which the trials that went on stood in the opposite order of the next rung are passed
    by all (`rungs.Field.trusted`), and so are those at which, in the better half of earlier
    trainings of the same task, who was ahead came to less (`rungs.n_misleading`). Priors are
    trained again for what they come to in the end: as long as nothing has finished, they go on.

    A trial whose report is not finite ranks last and is not continued. The rule forecasts
    nothing: measured, no forecast that decided was better than these ranks, curves of earlier
    studies included. It is one of many that are about level, chosen for being the plainest that
    also holds where first steps mislead: other rungs and shares lie within an error of it.
    Against promoting the best third, or halving by three, it is ahead before eight full
    trainings and level after, over all families measured; better where first steps mislead,
    worse where good trials start slowly and overtake. Trials that start late defeat it, as every
    rule of this kind. `bench pruners` compares.

    Without `thaw`, in a loop that cannot continue trials, as `study.optimize`, the rule is plain
    successive halving, stopping all but the best 1 / `reduction_factor` at each rung: nothing
    that stops for good was measured to be better.

    What is foreseen of a trial's final value is for the eye. It is stored at each decision as
    the user attribute `deepweeds:anticipation`. The pruner keeps nothing that decides in the
    object: it reads the curves of the study alone, so any process comes to the same decision.
    Threads may share it.

    Args:
        max_resource: the step of a full training's last report.
        min_resource: the first rung.
        reduction_factor: ratio of neighbouring rungs.
        thaw: pause trials instead of stopping them, to be continued later by a loop that calls
            `next_continuation`.
        is_continuable: tells whether a paused trial's checkpoint still exists.
        earlier: learning curves, value by step, of full trainings of the same task.

    Raises:
        InvalidInputError: A resource or the reduction factor is no whole number or out of range.
    """

    def __init__(
        self,
        *,
        max_resource: int,
        min_resource: int = 1,
        reduction_factor: int = 3,
        thaw: bool = False,
        is_continuable: Callable[[FrozenTrial], bool] | None = None,
        earlier: Sequence[Mapping[int, float]] = (),
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
        self._max_resource = max_resource
        self._reduction_factor = reduction_factor
        self._rungs = rung_steps(min_resource, max_resource, reduction_factor)
        self._thaw = thaw
        self._is_continuable = is_continuable
        self._histories = Histories([*self._rungs, max_resource], earlier)
        # A loop that continues trials shows by asking, or by telling what can be continued.
        self._is_asked = is_continuable is not None
        self._has_warned = False
        self._last_seen = (-1, -1, 0)  # id of a trial, its last step, number of its reports

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial should stop after its last report.

        Raises:
            InvalidInputError: With `thaw`, in a loop that continues nothing.
        """
        curve = trial.intermediate_values
        if not curve:
            return False
        if self._thaw and not self._is_asked:
            raise InvalidInputError(
                "`thaw=True` needs a loop that calls `next_continuation(study)` before every "
                "`study.ask()` and goes on with the trial it names, as the workers of `study run` "
                "do; `study.optimize` does not. Leave `thaw` out there."
            )
        step = max(curve)
        if not math.isfinite(curve[step]):
            _store(study, trial, None, "stop", "the report is not finite")
            return True
        self._warn_of_steps(trial)
        crossed = [
            rung
            for rung in self._rungs
            if step == min((s for s in curve if s >= rung), default=None)
        ]
        if not crossed or step >= self._max_resource:
            return False
        with self._histories.of(study) as history:
            if ENQUEUED_PRIOR in trial.user_attrs and history.best_final() is None:
                goes_on = True
            elif self._thaw:
                chosen = self._choose(history, trial)
                goes_on = chosen is not None and chosen.number == trial.number
                decision, reason = "pause", f"others go first at step {crossed[-1]}"
            else:
                goes_on = all(self._passes(history, trial, rung) for rung in crossed)
                share = 1 / self._reduction_factor
                decision, reason = "stop", f"not among the best {share:.0%} at step {crossed[-1]}"
            if goes_on:
                decision, reason = "continue", ""
            _store(study, trial, self._foresee(history, trial), decision, reason)
        return not goes_on

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
            return self._choose(history, None, is_closing=is_closing)

    def misleading(self, study: Study) -> list[int]:
        """Return the rungs that all trials pass, since earlier trainings show them to mislead."""
        with self._histories.of(study) as history:
            return self._rungs[: history.n_passed]

    def promising(self, study: Study, k: int = 50) -> list[int]:
        """Return the numbers of the `k` paused trials that are likeliest to be continued."""
        if not self._thaw:
            return []
        with self._histories.of(study) as history:
            whole, found = history.field()
            field, passed_over = whole.trusted()
            order = dict.fromkeys([*field.leaders()[:1], *field.by_distance(), *passed_over])
            return [found[i].number for i in order][:k]

    def _warn_of_steps(self, trial: FrozenTrial) -> None:
        """Say once if the steps that a study reports leave nothing to decide."""
        if self._has_warned:
            return
        steps = trial.intermediate_values
        now = (trial._trial_id, max(steps), len(steps))
        before, self._last_seen = self._last_seen, now
        if min(steps) > self._max_resource:
            what = f"the first one, {min(steps)}, is above max_resource"
        elif before[:2] == now[:2] and before[2] < now[2]:
            what = f"one after step {now[1]} is below it"
        else:
            return
        self._has_warned = True
        _LOG.warning(
            "DoraPruner needs steps that rise from 1 to max_resource=%d, but %s; it decides "
            "nothing there.",
            self._max_resource,
            what,
        )

    def _passes(self, history: History, trial: FrozenTrial, rung: int) -> bool:
        """Tell whether the trial is among the best of all that came to a rung, the earlier first.

        Networks that all predict one class have equal accuracies, and letting equal ones pass
        together would train every one of them.
        """
        whole, found = history.field(trial)
        field, _ = whole.trusted()
        if rung not in field.rungs:
            return True
        i = field.rungs.index(rung)
        here = [k for k in range(len(found)) if field.reached[k] >= i]
        own = next(k for k in here if found[k].number == trial.number)
        worth = field.worth[own, i]
        if not math.isfinite(worth):
            return False
        n_ahead = sum(bool(field.worth[k, i] >= worth) for k in here if k != own)
        return n_ahead < max(1, len(here) // self._reduction_factor)

    def _choose(
        self, history: History, own: FrozenTrial | None, *, is_closing: bool = False
    ) -> FrozenTrial | None:
        """Return the trial to go on with: a paused one, or `own`, which pauses as well."""
        whole, found = history.field(own)
        field, passed_over = whole.trusted()
        if any(own is not None and found[i].number == own.number for i in passed_over):
            return own

        def may_continue(i: int) -> bool:
            is_own = own is not None and found[i].number == own.number
            return is_own or self._is_continuable is None or self._is_continuable(found[i])

        if is_closing:
            best = history.best_final()
            last = {i: history.curve(found[i])[int(field.epochs[i])] for i in whole.leaders()}
            ahead = [i for i in last if best is None or last[i] > best]
            for i in sorted(ahead, key=lambda i: -last[i]):
                if may_continue(i):
                    return found[i]
        best = history.best_worth()
        leader = next(filter(may_continue, field.leaders()), None)
        if leader is not None and field.may_lead(best):
            if best is None or field.worth[leader, field.reached[leader]] > best:
                return found[leader]
        # Those passed over need fewer epochs to the first rung that counts than a new trial.
        goes_on = itertools.chain(field.probes(), field.within_quota(), passed_over)
        chosen = next(filter(may_continue, goes_on), None)
        return None if chosen is None else found[chosen]

    def _foresee(self, history: History, trial: FrozenTrial) -> dict[str, float | None]:
        """The final value expected of a trial and its interval, in the study's own direction."""
        sign, curve = history.sign, history.curve(trial)
        step = max(curve)
        forecast = forecast_final(curve[step], history.gains_after(step))
        best = history.best_final()
        incumbent = None if best is None else sign * best
        if forecast is None:
            return {"expected": trial.intermediate_values[step], "incumbent": incumbent}
        numbers = dict(zip(("expected", "low", "high"), forecast.times(sign), strict=True))
        return {**numbers, "incumbent": incumbent}


def _store(
    study: Study,
    trial: FrozenTrial,
    foreseen: dict[str, float | None] | None,
    decision: str,
    reason: str,
) -> None:
    """Show what was foreseen and decided (see `attributes.ANTICIPATION`)."""
    numbers = dict.fromkeys(("expected", "low", "high", "incumbent")) | (foreseen or {})
    attribute = {"epoch": max(trial.intermediate_values), **numbers}
    attribute |= {"decision": decision, "reason": reason}
    study._storage.set_trial_user_attr(trial._trial_id, ANTICIPATION, attribute)

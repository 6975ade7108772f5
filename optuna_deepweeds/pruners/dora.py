"""DORA: stop a trial when the anticipated end of its learning curve is not worth the epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from optuna_deepweeds.attributes import ANTICIPATION, RUNG
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners.forecaster import Forecast, anticipation_bound, forecast_final
from optuna_deepweeds.pruners.history import Histories, History, sign_of
from optuna_deepweeds.pruners.rungs import is_in_top, rung_steps, value_at

_MIN_FINISHED = 3


class DoraPruner(BasePruner):
    """Prunes by successive halving and by an upper bound on the anticipated final value.

    A trial is stopped when it is not among the best `1 / reduction_factor` of the values seen at
    a rung (`min_resource` times the powers of `reduction_factor`); when, from a tenth of
    `max_resource` on, the upper end of its forecast final value is below the best final value so
    far; and when it reports NaN or infinity.

    The pruner keeps nothing that decides in the object: values at rungs are system attributes of
    the trials, so any process comes to the same decision. What it foresaw is the user attribute
    `deepweeds:anticipation`.

    Args:
        max_resource: the step of a full training's last report.
        min_resource: the first rung.
        reduction_factor: one in this many passes a rung; also the ratio of neighbouring rungs.
        seed: reserved for variants that draw; the decisions are deterministic.
        prior_curves: curves of the same task, in the study's own units and direction.
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
        seed: int | None = None,
        prior_curves: Sequence[ArrayLike] | None = None,
        thaw: bool = False,
        is_continuable: Callable[[FrozenTrial], bool] | None = None,
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
        self._max_resource = max_resource
        self._reduction_factor = reduction_factor
        self._rungs = rung_steps(min_resource, max_resource, reduction_factor)
        self._first_bound_step = max(min_resource, 3, max_resource / 10)
        self._histories = Histories()

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial should stop after its last report."""
        sign = sign_of(study)
        curve = {step: sign * value for step, value in trial.intermediate_values.items()}
        if not curve:
            return False
        step = max(curve)
        value = curve[step]
        if not math.isfinite(value):
            _write(study, trial, step, None, None, None, sign, "stop", "the report is not finite")
            return True
        if step >= self._max_resource:
            return False
        previous = max((s for s in curve if s < step), default=-1)
        crossed = [rung for rung in self._rungs if previous < rung <= step]
        if not crossed and step < self._first_bound_step:
            return False

        history = self._histories.read(study)
        forecast = forecast_final(value, history.gains_after(step))
        finals = history.finals()
        incumbent = float(finals.max()) if len(finals) else None
        reason = self._reason_to_stop(history, trial, study, curve, sign, step, crossed)
        if (
            reason is None
            and step >= self._first_bound_step
            and len(finals) >= _MIN_FINISHED
            and forecast is not None
            and incumbent is not None
            and anticipation_bound(value, forecast) < incumbent
        ):
            reason = "its forecast stays below the best final value"
        if reason is not None or crossed:
            decision = "continue" if reason is None else "stop"
            expected = forecast or Forecast(value, value, value)
            _write(study, trial, step, expected, forecast, incumbent, sign, decision, reason or "")
        return reason is not None

    def _reason_to_stop(
        self,
        history: History,
        trial: FrozenTrial,
        study: Study,
        curve: dict[int, float],
        sign: float,
        step: int,
        crossed: list[int],
    ) -> str | None:
        """Mark the rungs that the last report reached; tell why the trial fails at one."""
        reason = None
        for rung in crossed:
            value = value_at(curve, rung)
            study._storage.set_trial_system_attr(trial._trial_id, f"{RUNG}{rung}", sign * value)
            others = np.array(history.rung_values(rung, without=trial.number))
            if not is_in_top(value, sign * others, 1 / self._reduction_factor):
                reason = f"not in the top 1/{self._reduction_factor} at step {rung}"
        return reason


def _write(
    study: Study,
    trial: FrozenTrial,
    step: int,
    expected: Forecast | None,
    interval: Forecast | None,
    incumbent: float | None,
    sign: float,
    decision: str,
    reason: str,
) -> None:
    low_high = [None, None] if interval is None else [interval.low, interval.high]
    if sign < 0:
        low_high = low_high[::-1]
    low, high = (None if end is None else sign * end for end in low_high)
    study._storage.set_trial_user_attr(
        trial._trial_id,
        ANTICIPATION,
        {
            "epoch": step,
            "expected": None if expected is None else sign * expected.expected,
            "low": low,
            "high": high,
            "incumbent": None if incumbent is None else sign * incumbent,
            "decision": decision,
            "reason": reason,
        },
    )

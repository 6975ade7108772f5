"""Which prior trials a study can use, in its own units, and why not the others."""

from __future__ import annotations

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_deepweeds.priors.record import WAYS, Direction, PriorTrial, canonical_metric
from optuna_deepweeds.spaces import SearchSpace, contains, describe

# A decimal text of a bound may lie outside the bound by its last digit.
_RELATIVE_TOLERANCE = 1e-9
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
_PERCENT = 10.0
"""The largest of a source's values must be as large to be taken as percent."""


class _Unusable(Exception):
    """Why a prior cannot be used, as the fields of `Dropped`."""

    def __init__(self, rule: str, reason: str = "") -> None:
        self.rule, self.reason = rule, reason or rule


@dataclass(frozen=True)
class Dropped:
    """A prior that cannot be used: `rule` groups equal causes, `reason` tells the values."""

    prior: PriorTrial
    rule: str
    reason: str


@dataclass(frozen=True)
class Matching:
    """What a study makes of some priors.

    Attributes:
        kept: Their `params` hold exactly the active parameters, in the space's own types; value
            and curve are in the study's metric and direction.
        dropped: The others.
        ignored: Name of a parameter the space does not know -> number of rows with it.
        percent: Sources whose values were taken as percent.
    """

    kept: tuple[PriorTrial, ...]
    dropped: tuple[Dropped, ...]
    ignored: Mapping[str, int]
    percent: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What was converted, dropped and ignored, for people, one line a fact."""
        text = [f"  taken as percent: the values of {source}" for source in self.percent]
        places: dict[str, list[str]] = defaultdict(list)
        for drop in self.dropped:
            places[drop.rule].append(drop.prior.where)
        for rule, where in sorted(places.items(), key=lambda item: -len(item[1])):
            more = f" and {len(where) - 3} more" if len(where) > 3 else ""
            text.append(f"  dropped {len(where)}: {rule} ({', '.join(where[:3])}{more})")
        if self.ignored:
            names = ", ".join(f"{name} ({n})" for name, n in self.ignored.items())
            text.append(f"  ignored columns, with rows that have them: {names}")
        return text


def match_priors(
    priors: Sequence[PriorTrial],
    space: SearchSpace,
    *,
    metric: str = "accuracy",
    direction: Direction = "maximize",
    max_epochs: int | None = None,
) -> Matching:
    """Sort `priors` into observations of a study and others.

    A row that lacks an active parameter is dropped: completed, it would claim a value for a
    network nobody trained.

    Args:
        priors: Any priors.
        space: The study's space.
        metric: What the study reports; accuracies and errors convert into each other.
        direction: Whether the study's larger values are better.
        max_epochs: Epochs of a full training; rows that trained fewer are dropped, longer curves
            are cut there.
    """
    kept: list[PriorTrial] = []
    dropped: list[Dropped] = []
    percent = _in_percent(priors)
    for prior in priors:
        try:
            sound = _checked(prior, max_epochs)
            factor = 0.01 if prior.source in percent else 1.0
            kept.append(_placed(_converted(sound, metric, direction, factor), space))
        except _Unusable as problem:
            dropped.append(Dropped(prior, problem.rule, problem.reason))
    ignored = Counter(name for prior in priors for name in space.unknown(prior.params))
    return Matching(tuple(kept), tuple(dropped), dict(sorted(ignored.items())), tuple(percent))


def _checked(prior: PriorTrial, max_epochs: int | None) -> PriorTrial:
    """`prior` as it stood after `max_epochs`, as far as its curve tells."""
    if prior.problem:
        raise _Unusable(prior.problem)
    if not math.isfinite(prior.value):
        raise _Unusable("the value is not finite", f"the value is {prior.value}")
    curve = {k: v for k, v in sorted(prior.curve.items()) if math.isfinite(v)}
    if max_epochs is None or prior.epochs is None:
        return replace(prior, curve=curve, is_forecast=False)
    if prior.epochs < max_epochs and prior.is_forecast:
        return replace(prior, curve=curve)
    if prior.epochs < max_epochs:
        reason = f"trained {prior.epochs} of {max_epochs} epochs"
        raise _Unusable(f"trained fewer than {max_epochs} epochs", reason)
    return replace(
        prior,
        value=curve.get(max_epochs, prior.value),
        curve={k: v for k, v in curve.items() if k <= max_epochs},
        epochs=max_epochs,
        is_forecast=False,
    )


def _in_percent(priors: Sequence[PriorTrial]) -> list[str]:
    """Sources of accuracies or errors in which every final value says percent."""
    values: dict[str, list[float]] = defaultdict(list)
    for prior in priors:
        if prior.metric in WAYS and math.isfinite(prior.value) and not prior.problem:
            values[prior.source].append(prior.value)
    return [s for s, v in values.items() if 1 < min(v) and _PERCENT <= max(v) <= 100]


def _converted(prior: PriorTrial, metric: str, direction: Direction, factor: float) -> PriorTrial:
    """`prior` with value and curve in the study's metric; nothing is guessed."""
    ours, theirs = canonical_metric(metric), prior.metric
    what = theirs or "a metric without a name"
    if prior.direction:
        what += f" to {prior.direction}"
    else:
        prior = replace(prior, direction=direction)
    if ours not in WAYS or theirs not in WAYS:
        if (ours, direction) == (theirs, prior.direction):
            return prior
        way = f"priors import FILE --study NAME --metric {shlex.quote(metric)}"
        rule = f"the metric must be {metric} to {direction}; `{way}` says that it is"
        raise _Unusable(rule, f"{rule}, but is {what}")
    if WAYS[theirs] != prior.direction:
        rule = f"an {theirs} must be there to {WAYS[theirs]}"
        raise _Unusable(rule, f"{rule}, but is to {prior.direction}")
    values = {epoch: factor * value for epoch, value in prior.curve.items()}
    final = factor * prior.value
    if not all(0 <= v <= 1 for v in (final, *values.values())):
        rule = f"an {theirs} must be from 0 to 1, or all of a source in percent"
        raise _Unusable(rule, f"{rule}, but is {prior.value:g}")
    if prior.direction != direction:
        final = 1 - final
        values = {epoch: 1 - value for epoch, value in values.items()}
        theirs = "error" if theirs == "accuracy" else "accuracy"
    return replace(prior, value=final, curve=values, metric=theirs, direction=direction)


def _placed(prior: PriorTrial, space: SearchSpace) -> PriorTrial:
    """`prior` as a point of `space`."""
    for name, constant in space.constants.items():
        if prior.params.get(name) is not None and prior.params[name] != constant:
            rule = f"{name} must be {constant!r}"
            raise _Unusable(rule, f"{rule}, but is {prior.params[name]!r}")
    params: dict[str, Any] = {}
    for parameter in space.parameters:
        name = parameter.name
        value = prior.params.get(name)
        if name not in space.active(params if value is None else {**params, name: value}):
            continue
        if value is None:
            raise _Unusable(f"{name} is missing")
        expressed = express(parameter.distribution, value)
        if expressed is None:
            rule = f"{name} must be {describe(parameter.distribution)}"
            raise _Unusable(rule, f"{rule}, but is {value!r}")
        params[name] = expressed
    return replace(prior, params=params)


def express(distribution: BaseDistribution, value: Any) -> Any | None:
    """`value` as `distribution` itself would hold it, or None if it lies outside.

    8.0 is the integer 8, a number beyond a bound or beside a step by rounding is moved onto it,
    0, 1, yes and no are the choices False and True, and a choice may come as its text.
    """
    if isinstance(distribution, CategoricalDistribution):
        return _express_choice(distribution, value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    if isinstance(distribution, IntDistribution):
        number: int | float = int(value)
        return number if number == value and contains(distribution, number) else None
    assert isinstance(distribution, FloatDistribution)
    number = _snapped(distribution, float(value))
    return number if contains(distribution, number) else None


def _snapped(distribution: FloatDistribution, value: float) -> float:
    grid = [distribution.low, distribution.high]
    if distribution.step is not None:
        steps = round((value - distribution.low) / distribution.step)
        grid.append(distribution.low + steps * distribution.step)
    scale = max(abs(distribution.low), abs(distribution.high), abs(value))
    for point in grid:
        absolute = 0.0 if distribution.log else scale * _RELATIVE_TOLERANCE
        if math.isclose(value, point, rel_tol=_RELATIVE_TOLERANCE, abs_tol=absolute):
            return point
    return value


def _express_choice(distribution: CategoricalDistribution, value: Any) -> Any | None:
    """The one choice that `value` spells, the most literal reading first."""
    kinds = (bool, int, float)
    text = str(value).casefold()
    for fits in (
        lambda choice: type(choice) is type(value) and choice == value,
        lambda choice: str(choice) == str(value),
        lambda choice: str(choice).casefold() == text,
        lambda choice: isinstance(choice, bool) and choice is _TRUTHS.get(text),
        # 1.0 is what pandas makes of True beside missing values.
        lambda choice: isinstance(choice, kinds) and isinstance(value, kinds) and choice == value,
    ):
        found = [choice for choice in distribution.choices if fits(choice)]
        if len(found) == 1:
            return found[0]
    return None

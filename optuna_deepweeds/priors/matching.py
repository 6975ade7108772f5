"""Which prior trials are points of a search space, and why the others are not."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_deepweeds.priors.record import PriorTrial
from optuna_deepweeds.spaces import SearchSpace, contains

# A decimal text of a bound may lie outside the bound by its last digit.
_RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Dropped:
    """A prior that cannot be used: `rule` groups equal causes, `reason` tells the values."""

    prior: PriorTrial
    rule: str
    reason: str


@dataclass(frozen=True)
class Matching:
    """What a space makes of some priors.

    Attributes:
        kept: Their `params` hold exactly the active parameters, in the space's own types.
        dropped: The others.
        ignored: Name of a parameter the space does not know -> number of rows with it.
        imputed: Name of a parameter that was filled in -> number of kept rows without it.
    """

    kept: tuple[PriorTrial, ...]
    dropped: tuple[Dropped, ...]
    ignored: Mapping[str, int]
    imputed: Mapping[str, int]

    @property
    def dropped_by_rule(self) -> dict[str, int]:
        """Rule -> number of dropped rows, most frequent first."""
        return dict(Counter(drop.rule for drop in self.dropped).most_common())


def match_priors(
    priors: Sequence[PriorTrial],
    space: SearchSpace,
    *,
    impute: bool = False,
    max_epochs: int | None = None,
) -> Matching:
    """Sort `priors` into points of `space` and others.

    Args:
        priors: Any priors.
        space: The space to match.
        impute: Fill in active parameters that a row lacks: with the median (or most frequent
            choice) of the rows that have it, else with the middle of the range. Meant for
            sources of other tasks. Without it such a row is dropped, because as an observation
            of the same task it would claim a value for a network nobody trained.
        max_epochs: Epochs of a full training; rows that trained fewer are dropped, longer curves
            are cut there.
    """
    kept: list[PriorTrial] = []
    dropped: list[Dropped] = []
    ignored: Counter[str] = Counter()
    imputed: Counter[str] = Counter()
    defaults = _defaults(priors, space) if impute else {}
    for prior in priors:
        ignored.update(space.unknown(prior.params))
        outcome = _match(prior, space, defaults, max_epochs)
        if isinstance(outcome, Dropped):
            dropped.append(outcome)
        else:
            kept.append(outcome)
            imputed.update(name for name in outcome.params if prior.params.get(name) is None)
    return Matching(tuple(kept), tuple(dropped), dict(sorted(ignored.items())), dict(imputed))


def _match(
    prior: PriorTrial,
    space: SearchSpace,
    defaults: Mapping[str, Any],
    max_epochs: int | None,
) -> PriorTrial | Dropped:
    if prior.problem:
        return Dropped(prior, prior.problem, prior.problem)
    if not math.isfinite(prior.value):
        return Dropped(prior, "the value is not finite", f"the value is {prior.value}")
    if max_epochs is not None and prior.epochs is not None and prior.epochs < max_epochs:
        reason = f"trained {prior.epochs} of {max_epochs} epochs"
        return Dropped(prior, f"trained fewer than {max_epochs} epochs", reason)
    for name, constant in space.constants.items():
        if prior.params.get(name) is not None and prior.params[name] != constant:
            reason = f"{name} must be {constant!r}, but is {prior.params[name]!r}"
            return Dropped(prior, f"{name} must be {constant!r}", reason)
    params: dict[str, Any] = {}
    for parameter in space.parameters:
        name = parameter.name
        if name not in space.active(params):
            continue
        value = prior.params.get(name, defaults.get(name))
        if value is None:
            return Dropped(prior, f"{name} is missing", f"{name} is missing")
        expressed = express(parameter.distribution, value)
        if expressed is None:
            rule = f"{name} must be {describe(parameter.distribution)}"
            return Dropped(prior, rule, f"{rule}, but is {value!r}")
        params[name] = expressed
    return _cut(replace(prior, params=params), max_epochs)


def _cut(prior: PriorTrial, max_epochs: int | None) -> PriorTrial:
    """`prior` as it stood after `max_epochs`, as far as its curve tells."""
    curve = {k: v for k, v in sorted(prior.curve.items()) if math.isfinite(v)}
    if max_epochs is None or prior.epochs is None or prior.epochs <= max_epochs:
        return replace(prior, curve=curve)
    return replace(
        prior,
        value=curve.get(max_epochs, prior.value),
        curve={k: v for k, v in curve.items() if k <= max_epochs},
        epochs=max_epochs,
    )


def express(distribution: BaseDistribution, value: Any) -> Any | None:
    """`value` as `distribution` itself would hold it, or None if it lies outside.

    8.0 is the integer 8, a number beyond a bound or beside a step by rounding is moved onto it,
    0 and 1 are the choices False and True, and a choice may come as its text.
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
    for choice in distribution.choices:
        if type(choice) is type(value) and choice == value:
            return choice
    as_text = [choice for choice in distribution.choices if str(choice) == str(value)]
    if len(as_text) == 1:
        return as_text[0]
    as_number = [
        choice
        for choice in distribution.choices
        if isinstance(choice, (bool, int, float))
        and isinstance(value, (bool, int, float))
        # 1.0 is what pandas makes of True beside missing values.
        and choice == value
    ]
    return as_number[0] if len(as_number) == 1 else None


def describe(distribution: BaseDistribution) -> str:
    """The range of `distribution` in words for messages."""
    if isinstance(distribution, CategoricalDistribution):
        return "one of " + ", ".join(str(choice) for choice in distribution.choices)
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    kind = "a whole number" if isinstance(distribution, IntDistribution) else "a number"
    return f"{kind} from {distribution.low:g} to {distribution.high:g}"


def _defaults(priors: Iterable[PriorTrial], space: SearchSpace) -> dict[str, Any]:
    """A value for each parameter: what is usual in `priors`, else the middle of its range."""
    rows = [prior.params for prior in priors if not prior.problem]
    defaults = {}
    for name, distribution in space.distributions.items():
        seen = [
            value
            for row in rows
            if row.get(name) is not None
            and (value := express(distribution, row[name])) is not None
        ]
        if isinstance(distribution, CategoricalDistribution):
            # `mode` gives the first of several equally frequent ones.
            defaults[name] = statistics.mode(seen) if seen else distribution.choices[0]
        else:
            defaults[name] = statistics.median_low(seen) if seen else _middle(distribution)
    return defaults


def _middle(distribution: BaseDistribution) -> int | float:
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    low, high = distribution.low, distribution.high
    middle = math.sqrt(low * high) if distribution.log else (low + high) / 2
    if distribution.step is not None:
        middle = low + math.floor((middle - low) / distribution.step) * distribution.step
    return int(middle) if isinstance(distribution, IntDistribution) else middle

"""Conditional search spaces: parameters, the conditions under which they exist, constants.

A space is declared once and read by everyone: the objective suggests from it, samplers take the
exact conditions from it, and prior trials are checked against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.schema import did_you_mean
from optuna_deepweeds.trials import FINISHED


@dataclass(frozen=True)
class Condition:
    """A parameter exists only where its parent does and has one of `values` or `>= at_least`."""

    parent: str
    values: tuple[Any, ...] | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if (self.values is None) == (self.at_least is None):
            raise InvalidInputError(
                "a condition must have exactly one of `values` and `at_least`, but has "
                f"{'none' if self.values is None else 'both'}."
            )

    def holds(self, value: Any) -> bool:
        """True if the parent's `value` switches the parameter on."""
        if self.values is not None:
            return value in self.values
        return bool(value >= self.at_least)

    def __str__(self) -> str:
        if self.values is not None:
            return f"{self.parent} in {list(self.values)}"
        return f"{self.parent} >= {self.at_least:g}"


@dataclass(frozen=True)
class Parameter:
    """One searched parameter: its Optuna distribution and, if any, its condition."""

    name: str
    distribution: BaseDistribution
    condition: Condition | None = None


@dataclass(frozen=True)
class SearchSpace:
    """A named conditional space.

    Attributes:
        name: The name it is registered under, or where it was read from.
        parameters: In an order in which every parent precedes its children.
        constants: Values that every configuration carries and no trial suggests.
        optional: Parameters of which nobody knows when they exist: where they have a value.
    """

    name: str
    parameters: tuple[Parameter, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    # Raises InvalidInputError where the parameters contradict one another.
    def __post_init__(self) -> None:
        seen: set[str] = set()
        for parameter in self.parameters:
            condition = parameter.condition
            if condition is not None and condition.parent not in seen:
                raise InvalidInputError(
                    f"the parent of a parameter must be declared before it, but "
                    f"{parameter.name!r} depends on {condition.parent!r}."
                    f"{did_you_mean(condition.parent, seen)}"
                )
            if parameter.name in seen or parameter.name in self.constants:
                raise InvalidInputError(f"parameter {parameter.name!r} is declared twice.")
            if condition is not None:
                parent = self[condition.parent].distribution
                choices = getattr(parent, "choices", ())
                if condition.at_least is not None and any(isinstance(c, str) for c in choices):
                    raise InvalidInputError(
                        f"the parent of {parameter.name!r} must be a number to have a least one, "
                        f"but {condition.parent!r} is {describe(parent)}."
                    )
                for value in condition.values or ():
                    if not contains(parent, value):
                        raise InvalidInputError(
                            f"the parent of {parameter.name!r} must be able to take each of its "
                            f"values, but {condition.parent!r} is never {value!r}."
                        )
            seen.add(parameter.name)

    def __getitem__(self, name: str) -> Parameter:
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(name)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Every parameter's distribution, conditional ones included."""
        return {p.name: p.distribution for p in self.parameters}

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest every active parameter and return the configuration, constants included.

        Called before anything else in an objective, so that running trials carry their full
        parameters and samplers can treat them as pending points.
        """
        config: dict[str, Any] = {}
        for parameter in self.parameters:
            if self._is_active(parameter, config):
                # The generic entry of `suggest_float`, `suggest_int` and `suggest_categorical`;
                # it keeps the declared distribution object, step and log included.
                config[parameter.name] = trial._suggest(parameter.name, parameter.distribution)
        return {**config, **self.constants}

    def active(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the parameters that exist under `params`, in declared order.

        A parameter whose parent is missing from `params` does not exist.
        """
        return tuple(p.name for p in self.parameters if self._is_active(p, params))

    def problem(self, params: Mapping[str, Any]) -> str | None:
        """Tell why `params` is not a point of this space, or None if it is one.

        Names that the space does not know and inactive parameters are ignored; constants must
        agree where present.
        """
        for name, value in self.constants.items():
            if name in params and params[name] != value:
                return f"{name} must be {value!r}, but is {params[name]!r}"
        for name in self.active(params):
            if name not in params:
                return f"{name} is missing"
            if not contains(self[name].distribution, params[name]):
                return f"{name} must be in {self[name].distribution}, but is {params[name]!r}"
        return None

    def project(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The active parameters of `params` alone, in declared order."""
        return {name: params[name] for name in self.active(params) if name in params}

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are neither parameters nor constants of this space."""
        known = set(self.distributions) | set(self.constants)
        return sorted(set(names) - known)

    def _is_active(self, parameter: Parameter, params: Mapping[str, Any]) -> bool:
        condition = parameter.condition
        if condition is None:
            return parameter.name not in self.optional or parameter.name in params
        if condition.parent not in params:
            return False
        parent = self[condition.parent]
        return self._is_active(parent, params) and condition.holds(params[condition.parent])


def seen_space(name: str, trials: Iterable[FrozenTrial]) -> SearchSpace:
    """What `trials` had, of an objective that suggests for itself: the last range of each."""
    seen: dict[str, BaseDistribution] = {}
    sets = [t.distributions for t in trials if t.state in FINISHED]
    for distributions in sets:
        seen |= distributions
    rare = frozenset(key for key in seen if not all(key in d for d in sets))
    return SearchSpace(name, tuple(Parameter(k, d) for k, d in seen.items()), optional=rare)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """True if `value` has the right type and lies inside `distribution`."""
    try:
        internal = distribution.to_internal_repr(value)
    except (TypeError, ValueError):
        return False
    return bool(distribution._contains(internal))


def describe(distribution: BaseDistribution, *, with_scale: bool = False) -> str:
    """The range of `distribution` in words for messages."""
    if isinstance(distribution, CategoricalDistribution):
        return "one of " + ", ".join(map(str, distribution.choices))
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    is_int = isinstance(distribution, IntDistribution)
    kind = "a whole number" if is_int else "a number"
    text = f"{kind} from {distribution.low:g} to {distribution.high:g}"
    if not with_scale:
        return text
    text += " on a log scale" if distribution.log else ""
    is_plain = distribution.step is None or (is_int and distribution.step == 1)
    return text if is_plain else f"{text} in steps of {distribution.step:g}"

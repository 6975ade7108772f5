"""Spaces of one's own: `file.py:NAME`, a TOML file, and the form in which a study stores them.

In Python a space is a `SearchSpace`, or a dictionary of Optuna's distributions by name. In TOML:

    [parameters]
    optimizer = { choices = ["adam", "sgd"] }
    rate = { type = "float", low = 1e-5, high = 1.0, log = true }
    momentum = { type = "float", low = 0.5, high = 0.99, when = { parent = "optimizer", values = ["sgd"] } }
    n_layers = { type = "int", low = 1, high = 3 }
    width_2 = { type = "int", low = 8, high = 64, when = { parent = "n_layers", at_least = 2 } }
    [constants]
    kernel_size = 3
"""  # noqa: E501

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.pyfile import load_from
from optuna_deepweeds.schema import choose, load
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.spaces.search_space import Condition, Parameter, SearchSpace

_TYPES = {"int": IntDistribution, "float": FloatDistribution}


@dataclass(frozen=True)
class _Entry:
    """A parameter as it is written."""

    type: str = "categorical"
    choices: tuple[Any, ...] | None = None
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None
    when: Condition | None = None

    def distribution(self) -> BaseDistribution:
        """As Optuna has it.

        Raises:
            ValueError: If it has none.
        """
        choose("type", self.type, [*_TYPES, "categorical"])
        if self.type == "categorical":
            if self.choices is None or self.low is not None or self.high is not None:
                raise InvalidInputError(
                    "a parameter must have choices, or type, low and high (type int or float)."
                )
            return CategoricalDistribution(self.choices)
        if self.low is None or self.high is None or self.choices is not None:
            raise InvalidInputError(f"one of type {self.type} must have low and high alone.")
        if self.type == "float":
            return FloatDistribution(self.low, self.high, log=self.log, step=self.step)
        if any(isinstance(value, float) for value in (self.low, self.high, self.step)):
            raise InvalidInputError("one of type int must have whole numbers.")
        return IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))


@dataclass(frozen=True)
class _Form:
    parameters: Mapping[str, Any]
    constants: Mapping[str, Any] = field(default_factory=dict)


def load_space(place: str) -> SearchSpace:
    """The space that `place` names: one of `SPACES`, `file.py:NAME` or `file.toml`.

    Raises:
        NotFoundError: If there is no such file.
        InvalidInputError: If it holds no space.
    """
    if place in SPACES:
        return SPACES[place]
    if place.endswith(".toml"):
        try:
            data = tomllib.loads(Path(place).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotFoundError(f"no file {place}.") from None
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"{place} must be a TOML file, but: {error}.") from None
        return from_data(place, data)
    if ".py" not in place:
        try:
            choose("space", place, SPACES)
        except InvalidInputError as error:
            raise InvalidInputError(f"{error} Or a file: mine.py:SPACE, mine.toml.") from None
    found = load_from(place, "a space").value
    if isinstance(found, SearchSpace):
        space = replace(found, name=place)
    elif isinstance(found, Mapping) and "parameters" in found:
        return from_data(place, found)
    else:
        entries = found if isinstance(found, Mapping) else {"the whole": found}
        for key, value in entries.items():
            if not isinstance(value, BaseDistribution):
                raise InvalidInputError(
                    f"{place} must be a SearchSpace or a dictionary of Optuna's distributions, "
                    f"but {key} is a {type(value).__name__}."
                )
        space = SearchSpace(place, tuple(Parameter(name, d) for name, d in entries.items()))
    return from_data(place, to_data(space))  # What a study can store.


def from_data(name: str, data: Any) -> SearchSpace:
    """The space that `data` describes, in the form of the module.

    Raises:
        InvalidInputError: If it describes none.
    """
    form = load(_Form, data, name)
    if not form.parameters:
        raise InvalidInputError(f"{name}: a space must have parameters.")
    parameters = []
    for key, value in form.parameters.items():
        entry = load(_Entry, value, f"{name}: {key}")
        try:
            parameters.append(Parameter(key, entry.distribution(), entry.when))
        except ValueError as error:
            raise InvalidInputError(f"{name}: {key}: {error}") from None
    try:
        return SearchSpace(name, tuple(parameters), dict(form.constants))
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}: {error}") from None


def to_data(space: SearchSpace) -> dict[str, Any]:
    """`space` as plain values, which JSON and TOML know.

    Raises:
        InvalidInputError: If a parameter has another distribution than Optuna's three, or a
            constant is no plain value.
    """
    parameters = {}
    for parameter in space.parameters:
        distribution = parameter.distribution
        entry: dict[str, Any]
        if isinstance(distribution, CategoricalDistribution):
            entry = {"choices": list(distribution.choices)}
        elif isinstance(distribution, FloatDistribution | IntDistribution):
            kind = "int" if isinstance(distribution, IntDistribution) else "float"
            entry = {"type": kind, "low": distribution.low, "high": distribution.high}
            entry |= {"log": True} if distribution.log else {}
            if distribution.step is not None and (kind, distribution.step) != ("int", 1):
                entry["step"] = distribution.step
        else:
            raise InvalidInputError(f"{space.name}: {parameter.name} is no distribution.")
        if parameter.condition is not None:
            condition = asdict(parameter.condition)
            entry["when"] = {key: value for key, value in condition.items() if value is not None}
        parameters[parameter.name] = entry
    data = {"parameters": parameters, "constants": dict(space.constants)}
    try:
        return dict(json.loads(json.dumps(data)))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{space.name} must have plain values, but: {error}.") from None


def to_toml(space: SearchSpace) -> str:
    """`space` as the text of a TOML file.

    Raises:
        InvalidInputError: If it has a choice or constant that TOML does not know: None.
    """
    lines = []
    for table, entries in to_data(space).items():
        lines += [f"[{table}]"] * bool(entries)
        lines += [f"{_key(name)} = {_toml(value, name)}" for name, value in entries.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any, name: str) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_toml(v, name)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item, name) for item in value) + "]"
    if value is None:
        raise InvalidInputError(f"{name} must not be None to be written as TOML.")
    return json.dumps(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)

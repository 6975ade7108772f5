"""Names and stored values checked against what they may be; the rule first, then what came."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from numbers import Integral
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from optuna_deepweeds.errors import InvalidInputError

_T = TypeVar("_T")
_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


class _Wrong(Exception):
    """A value is not of its type."""


def require(holds: bool, rule: str, **values: Any) -> None:
    """Refuse `values` (name and value) for which `rule`, in the form `0 <= fold <= 4`, fails.

    Raises:
        InvalidInputError: `holds` is false.
    """
    if not holds:
        came = ", ".join(f"{name}={value}" for name, value in values.items())
        raise InvalidInputError(f"`{rule}` must hold, but got {came}.")


def require_whole(name: str, value: Any, *, at_least: int | None = None) -> None:
    """Refuse the argument `name` if it is no whole number, or one below `at_least`.

    Raises:
        InvalidInputError: It is.
    """
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole:
        raise InvalidInputError(f"`{name}` must be a whole number, but got {value!r:.60}.")
    if at_least is not None:
        require(value >= at_least, f"{name} >= {at_least}", **{name: value})


def choose(kind: str, name: str, known: Iterable[str]) -> str:
    """`name`, which must be one of `known`.

    Args:
        kind: What it names, for the message: "sampler", "data set".
        name: The name.
        known: All names there are.

    Raises:
        InvalidInputError: It is none of them; the message names the nearest and all others.
    """
    names = sorted(known)
    if name not in names:
        hint = did_you_mean(name, names)
        raise InvalidInputError(f"no {kind} {name!r}.{hint} Known: {', '.join(names)}.")
    return name


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` with the nearest of `known`, or nothing if none is near."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def load(cls: type[_T], stored: Any, what: str) -> _T:
    """`stored`, a mapping from JSON or TOML, as the dataclass `cls`.

    Fields may be str, int, float (an int will do), bool, tuples of one of them, mappings, other
    dataclasses, and unions of all these with None; tuples are read from lists.

    Args:
        cls: The dataclass; a field with a default may be absent.
        stored: The mapping.
        what: What it is, for the message: a file's path, "the study's stored budget".

    Raises:
        InvalidInputError: No mapping, a field unknown, absent or of another type; and whatever
            `cls` itself refuses.
    """
    if not isinstance(stored, Mapping):
        raise InvalidInputError(f"{what} must be a table of values, but is {stored!r:.60}.")
    types_ = get_type_hints(cls)
    known = {f.name: f for f in fields(cls) if f.init}  # type: ignore[arg-type]
    values = {}
    for name, value in stored.items():
        if name not in known:
            hint = did_you_mean(name, known) or f" Keys: {', '.join(known)}."
            raise InvalidInputError(f"{what}: no key {name!r}.{hint}")
        try:
            values[name] = _as(types_[name], value, f"{what}: {name}")
        except _Wrong:
            raise InvalidInputError(
                f"{what}: {name} must be {_words(types_[name])}, but is {value!r:.60}."
            ) from None
    absent = [
        name
        for name, f in known.items()
        if name not in values and f.default is MISSING and f.default_factory is MISSING
    ]
    if absent:
        raise InvalidInputError(f"{what}: {', '.join(absent)} must be set, but is not.")
    try:
        return cls(**values)
    except InvalidInputError as error:
        raise InvalidInputError(f"{what}: {error}") from None


def _as(kind: Any, value: Any, what: str) -> Any:
    """`value` as a value of the type `kind`; `_Wrong` if it is none."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        for option in inner:
            try:
                return _as(option, value, what)
            except _Wrong:
                continue
        raise _Wrong
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _Wrong
        return tuple(_as(inner[0], item, what) for item in value)
    if isinstance(origin or kind, type) and issubclass(origin or kind, Mapping):
        if not isinstance(value, Mapping):
            raise _Wrong
        return value
    if is_dataclass(kind):
        return load(kind, value, what)  # type: ignore[arg-type]
    # True is an int to Python, and 1 is a float to everybody else.
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise _Wrong
    return value


def _words(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(kind) for kind in inner if kind is not type(None))
    if origin is tuple:
        return f"a list, each entry {_words(inner[0])}"
    return _WORDS.get(kind, "a table of values")

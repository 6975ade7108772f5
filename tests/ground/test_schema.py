"""Stored values come back as what they were, or are refused in one line that names the rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.schema import choose, did_you_mean, load, require


@dataclass(frozen=True)
class Inner:
    files: tuple[str, ...]
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    epochs: int = 3
    thaw: bool = False
    seconds: float | None = None
    inner: Inner | None = None
    table: Mapping[str, Any] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()


def test_a_mapping_becomes_its_dataclass() -> None:
    stored = {
        "name": "a",
        "thaw": True,
        "seconds": 3,
        "inner": {"files": ["x", "y"]},
        "table": {"b": [1]},
        "numbers": [1, 2],
    }
    assert load(Outer, stored, "it") == Outer(
        "a", 3, True, 3, Inner(("x", "y")), {"b": [1]}, (1, 2)
    )
    assert load(Outer, {"name": "a", "seconds": None}, "it") == Outer("a")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([], r"it must be a table of values, but is \[\]\."),
        ({}, "it: name must be set, but is not."),
        ({"name": 3}, "it: name must be a text, but is 3."),
        ({"name": "a", "epochs": True}, "it: epochs must be a whole number, but is True."),
        ({"name": "a", "epochs": 3.0}, "it: epochs must be a whole number, but is 3.0."),
        ({"name": "a", "thaw": 1}, "it: thaw must be true or false, but is 1."),
        ({"name": "a", "seconds": "3"}, "it: seconds must be a number, but is '3'."),
        ({"name": "a", "table": []}, "it: table must be a table of values"),
        ({"name": "a", "numbers": [1, "x"]}, "numbers must be a list, each entry a whole number"),
        ({"name": "a", "numbers": "12"}, "numbers must be a list"),
        ({"name": "a", "epoch": 3}, "it: no key 'epoch'. Did you mean 'epochs'?"),
        ({"name": "a", "zzz": 3}, "it: no key 'zzz'. Keys: name, epochs, thaw"),
        ({"name": "a", "inner": {"file": []}}, "it: inner: no key 'file'. Did you mean 'files'?"),
        ({"name": "a", "inner": {}}, "it: inner: files must be set"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(stored: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load(Outer, stored, "it")


def test_names_and_values_are_checked_with_a_hint() -> None:
    assert choose("sampler", "tpe", ["tpe", "gp"]) == "tpe"
    with pytest.raises(InvalidInputError, match=r"no sampler 'tpee'\. Did you mean 'tpe'\? Known"):
        choose("sampler", "tpee", ["tpe", "gp"])
    assert did_you_mean("qqq", ["tpe"]) == ""
    require(True, "a >= 1", a=0)
    with pytest.raises(InvalidInputError, match=r"`1 <= a <= b` must hold, but got a=0, b=2\."):
        require(False, "1 <= a <= b", a=0, b=2)

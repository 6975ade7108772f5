"""Samplers and pruners by description."""

from __future__ import annotations

import pytest

from optuna_deepweeds.bench.methods import PRUNERS, make_pruner, parse
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners import DoraPruner


def test_options_are_literals_or_words() -> None:
    options = {"n_trees": 30, "space": False, "kind": "log"}
    assert parse("rf_ei:n_trees=30:space=False:kind=log") == ("rf_ei", options)


@pytest.mark.parametrize("text", ["rf_ei:fast", "rf_ei:=3", "dora:2=x"])
def test_an_option_is_a_key_and_a_value(text: str) -> None:
    with pytest.raises(InvalidInputError, match="name:key=value"):
        parse(text)


@pytest.mark.parametrize("name", [*PRUNERS, "dora:min_resource=2", "asha-3-1:reduction_factor=2"])
def test_a_pruner_is_made_from_its_description(name: str) -> None:
    pruner = make_pruner(name, max_resource=9, seed=0)
    assert isinstance(pruner, DoraPruner) == name.startswith("dora") * ("published" not in name)


@pytest.mark.parametrize(
    "name", ["ashes", "none:x=1", "promotion-3:x=1", "dora:min_resource", "dora:no_such=1"]
)
def test_an_unknown_pruner_or_option_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        make_pruner(name, max_resource=9, seed=0)
    assert "\n" not in str(error.value)

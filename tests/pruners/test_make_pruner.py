"""Pruners by name."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners import PRUNERS, DoraPruner, make_pruner
from tests.pruners.contract import new_study, random_curves, run_trials

KINDS = {
    "none": optuna.pruners.NopPruner,
    "asha": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "median": optuna.pruners.MedianPruner,
    "dora": DoraPruner,
}


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("min_resource", [1, 3])
def test_name_gives_its_pruner_which_stops_from_min_resource_on(
    name: str, min_resource: int
) -> None:
    pruner = make_pruner(name, max_resource=9, min_resource=min_resource)
    assert isinstance(pruner, KINDS[name])
    study = new_study(pruner)
    run_trials(study, random_curves(25))
    first_stop = min(max(t.intermediate_values) for t in study.trials)
    assert first_stop == (9 if name == "none" else min_resource)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dorra", {}, r"no pruner 'dorra'\. Did you mean 'dora'\?.*asha"),
        ("asha", {"patience": 3}, "asha.*patience"),
        ("asha", {"reduction_factor": 1}, "asha.*reduction_factor"),
        ("dora", {"reduction_factor": 1}, "reduction_factor >= 2"),
    ],
)
def test_unknown_names_and_options_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make_pruner(name, max_resource=9, **options)


def test_options_win_over_our_settings() -> None:
    study = new_study(make_pruner("asha", max_resource=9, min_resource=1, reduction_factor=9))
    run_trials(study, random_curves(25))
    assert {max(t.intermediate_values) for t in study.trials} == {1, 9}  # and no rung at 3

"""Pruners by name."""

from __future__ import annotations

import optuna
import pytest

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners import PRUNERS, DoraPruner, make_pruner
from tests.pruners.contract import new_study, random_curves, run_trial


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", optuna.pruners.NopPruner),
        ("asha", optuna.pruners.SuccessiveHalvingPruner),
        ("hyperband", optuna.pruners.HyperbandPruner),
        ("median", optuna.pruners.MedianPruner),
        ("dora", DoraPruner),
    ],
)
def test_name_gives_its_pruner(name: str, kind: type) -> None:
    assert name in PRUNERS
    assert isinstance(make_pruner(name, max_resource=20), kind)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_runs_a_study(name: str) -> None:
    study = new_study(make_pruner(name, max_resource=9))
    for curve in random_curves(25):
        run_trial(study, dict(enumerate(map(float, curve), start=1)))
    stopped = sum(t.state == optuna.trial.TrialState.PRUNED for t in study.trials)
    assert (stopped == 0) == (name == "none")


@pytest.mark.parametrize("name", ["asha", "hyperband", "median", "dora"])
def test_no_trial_stops_before_min_resource(name: str) -> None:
    study = new_study(make_pruner(name, max_resource=9, min_resource=3))
    for curve in random_curves(25):
        run_trial(study, dict(enumerate(map(float, curve), start=1)))
    assert min(max(t.intermediate_values) for t in study.trials) == 3


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(
        InvalidInputError, match=r"no pruner 'dorra'\. Did you mean 'dora'\?.*asha"
    ):
        make_pruner("dorra", max_resource=9)


def test_unknown_option_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="asha.*patience"):
        make_pruner("asha", max_resource=9, patience=3)


def test_options_reach_the_pruner() -> None:
    pruner = make_pruner("asha", max_resource=9, reduction_factor=4)
    assert pruner._reduction_factor == 4

"""What a space makes of prior rows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_deepweeds.priors import PriorTrial, match_priors, prior_sources, read_priors
from optuna_deepweeds.priors.matching import express
from optuna_deepweeds.spaces import SPACES

COURSE = SPACES["course"]
PARAMS: dict[str, Any] = {
    "n_conv_layers": 2, "use_BN": True, "global_avg_pooling": False, "n_channels_conv_0": 64,
    "n_channels_conv_1": 128.0, "n_fc_layers": 1, "n_channels_fc_0": 32, "batch_size": 32,
    "learning_rate_init": 1e-3,
}  # fmt: skip


def prior(value: float = 0.6, where: str = "line 2", **changes: Any) -> PriorTrial:
    params = {k: v for k, v in {**PARAMS, **changes}.items() if v is not None}
    return PriorTrial(params, value, "maximize", "accuracy", "runs", where, epochs=20)


def test_published_file_matches_whole(course_file: Path) -> None:
    matching = match_priors(read_priors(course_file), COURSE, max_epochs=20)
    assert len(matching.kept) == 75 and not matching.dropped and not matching.imputed
    assert matching.ignored == dict.fromkeys(
        ("budget_type", "cv_count", "dataset", "datasetpath", "device"), 75
    )
    for kept in matching.kept:
        assert COURSE.problem(kept.params) is None
        assert tuple(kept.params) == COURSE.active(kept.params)


def test_values_take_the_types_of_the_space() -> None:
    (kept,) = match_priors([prior()], COURSE).kept
    assert kept.params["n_channels_conv_1"] == 128
    assert type(kept.params["n_channels_conv_1"]) is int


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"batch_size": 2000}, "batch_size must be a whole number from 1 to 1000, but is 2000"),
        ({"batch_size": 8.5}, "batch_size must be a whole number"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"learning_rate_init": "fast"}, "learning_rate_init must be a number"),
        ({"use_BN": "maybe"}, "use_BN must be one of False, True, but is 'maybe'"),
        ({"kernel_size": 5}, "kernel_size must be 3, but is 5"),
        ({"n_channels_conv_1": None}, "n_channels_conv_1 is missing"),
        ({"value": math.nan}, "the value is nan"),
        ({"value": math.inf}, "the value is inf"),
    ],
)
def test_row_outside_the_space_is_dropped_with_reason(changes: Any, reason: str) -> None:
    matching = match_priors([prior(**changes), prior()], COURSE)
    assert len(matching.kept) == 1
    (drop,) = matching.dropped
    assert reason in drop.reason and sum(matching.dropped_by_rule.values()) == 1


def test_inactive_and_unknown_parameters_are_left_out() -> None:
    matching = match_priors([prior(n_channels_conv_2=4, kernel_size=3.0, gpu="a")], COURSE)
    (kept,) = matching.kept
    assert "n_channels_conv_2" not in kept.params and "kernel_size" not in kept.params
    assert matching.ignored == {"gpu": 1}


def test_imputation_fills_with_what_is_usual_and_counts() -> None:
    rows = [prior(batch_size=n) for n in (10, 20, 90)]
    rows += [prior(batch_size=None, n_channels_conv_1=None)]
    matching = match_priors(rows, COURSE, impute=True)
    assert len(matching.kept) == 4
    assert matching.kept[3].params["batch_size"] == 20
    assert matching.imputed == {"n_channels_conv_1": 1, "batch_size": 1}


def test_parameter_in_no_row_is_imputed_inside_the_space() -> None:
    bare = PriorTrial({"n_conv_layers": 3}, 0.5, "maximize", "accuracy", "other", "line 2")
    (kept,) = match_priors([bare], COURSE, impute=True).kept
    assert COURSE.problem(kept.params) is None


def test_epochs_short_and_long() -> None:
    curve = {epoch: epoch / 100 for epoch in range(1, 21)}
    full = replace(prior(), curve=curve, value=0.2)
    matching = match_priors([full, replace(prior(), epochs=5)], COURSE, max_epochs=10)
    (kept,) = matching.kept
    assert kept.value == 0.1 and max(kept.curve) == 10 and kept.epochs == 10
    assert matching.dropped[0].reason == "trained 5 of 10 epochs"


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (IntDistribution(1, 9), 9.0, 9),
        (IntDistribution(1, 9, step=2), 4, None),
        (FloatDistribution(1e-5, 1, log=True), 9.9999999999e-06, 1e-5),
        (FloatDistribution(1e-5, 1, log=True), 9e-06, None),
        (FloatDistribution(0, 1, step=0.1), 0.30000000000000004, 0.3),
        (FloatDistribution(0, 1, step=0.1), 0.35, None),
        (FloatDistribution(0, 1), -1e-12, 0.0),
        (FloatDistribution(0, 1), True, None),
        (CategoricalDistribution((False, True)), 1.0, True),
        (CategoricalDistribution((False, True)), "True", True),
        (CategoricalDistribution(("8", "16")), 8, "8"),
        (CategoricalDistribution((8, 16)), 32, None),
        (CategoricalDistribution(("a", None)), "b", None),
    ],
)
def test_express(distribution: BaseDistribution, value: Any, expected: Any) -> None:
    result = express(distribution, value)
    assert (
        result == pytest.approx(expected, abs=1e-15)
        if isinstance(expected, float)
        else (result == expected and type(result) is type(expected))
    )


def test_sources_are_grouped_and_larger_is_better() -> None:
    loss = replace(prior(0.4), direction="minimize", metric="loss", source="b")
    sources, matching = prior_sources([prior(0.6), loss, prior(0.7, batch_size=9999)], COURSE)
    assert [(s.name, s.values) for s in sources] == [("runs", [0.6]), ("b", [-0.4])]
    assert len(matching.dropped) == 1

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

from optuna_deepweeds.priors import PriorTrial, match_priors, read_priors
from optuna_deepweeds.priors.match import express
from optuna_deepweeds.priors.record import canonical_metric
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
    assert len(matching.kept) == 75 and not matching.dropped
    assert matching.ignored == dict.fromkeys(
        ("budget_type", "cv_count", "dataset", "datasetpath", "device"), 75
    )
    for kept in matching.kept:
        assert COURSE.problem(kept.params) is None
        assert tuple(kept.params) == COURSE.active(kept.params)


def test_values_take_the_types_of_the_space_and_other_parameters_are_left_out() -> None:
    changes = {"n_channels_conv_2": 4, "kernel_size": 3.0, "gpu": "a"}
    matching = match_priors([prior(**changes)], COURSE)
    (kept,) = matching.kept
    assert kept.params["n_channels_conv_1"] == 128
    assert type(kept.params["n_channels_conv_1"]) is int
    assert "n_channels_conv_2" not in kept.params and "kernel_size" not in kept.params
    assert matching.ignored == {"gpu": 1}


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
    assert reason in drop.reason


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
        (CategoricalDistribution((False, True)), "TRUE", True),
        (CategoricalDistribution((False, True)), "yes", True),
        (CategoricalDistribution((False, True)), 0, False),
        (CategoricalDistribution(("adam", "sgd")), "Adam", "adam"),
        (CategoricalDistribution(("a", "A")), "A", "A"),
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


@pytest.mark.parametrize(
    ("metric", "direction", "value", "kept"),
    [
        ("accuracy", "maximize", 0.6, 0.6),
        ("error", "minimize", 0.6, 0.4),
        ("accuracy", "maximize", 1.5, None),
        ("error", "minimize", 2.5, None),  # hardly percent
        ("accuracy", "minimize", 0.6, None),
        ("", "maximize", 0.6, None),
        ("", "minimize", 0.35, None),
        ("mean squared error", "minimize", 0.02, None),
        ("loss", "minimize", 0.02, None),
    ],
)
def test_a_metric_is_never_guessed(
    metric: str, direction: Any, value: float, kept: float | None
) -> None:
    row = replace(prior(value), metric=metric, direction=direction)
    matching = match_priors([row], COURSE)
    assert [p.value for p in matching.kept] == ([] if kept is None else [pytest.approx(kept)])
    assert all("must be" in drop.reason for drop in matching.dropped)


def test_a_metric_of_the_study_itself_needs_no_conversion() -> None:
    row = replace(prior(2.5), metric="log loss", direction="minimize")
    matching = match_priors([row, prior()], COURSE, metric="log loss", direction="minimize")
    assert [p.value for p in matching.kept] == [2.5]


def test_a_source_in_percent_is_converted_and_said_so() -> None:
    percent = [replace(prior(v, batch_size=int(v)), curve={1: 9.0, 20: v}) for v in (40.0, 51.0)]
    mixed = [replace(prior(v), source="mixed") for v in (0.5, 40.0)]
    matching = match_priors([*percent, *mixed], COURSE)
    assert [p.value for p in matching.kept] == [0.4, 0.51, 0.5]
    assert matching.kept[0].curve == {1: 0.09, 20: 0.4}
    assert matching.percent == ("runs",)
    assert matching.lines()[0] == "  taken as percent: the values of runs"
    assert "but is 40" in matching.dropped[0].reason


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("accuracy", "accuracy"),
        ("validation accuracy", "accuracy"),
        ("val_acc", "accuracy"),
        ("Error rate", "error"),
        ("validation/error", "error"),
        ("mean squared error", "mean squared error"),
        ("balanced accuracy", "balanced accuracy"),
        ("", ""),
    ],
)
def test_only_names_that_say_so_are_accuracies_and_errors(name: str, canonical: str) -> None:
    assert canonical_metric(name) == canonical

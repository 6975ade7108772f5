from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_deepweeds.samplers.encoding import MISSING, Dimension, Encoder

KINDS: list[tuple[BaseDistribution, list[Any]]] = [
    (FloatDistribution(-2.0, 3.0), [-2.0, 0.25, 3.0]),
    (FloatDistribution(1e-5, 1.0, log=True), [1e-5, 3e-3, 1.0]),
    (FloatDistribution(-10.2, 10.2, step=0.1), [-10.2, 0.3, 10.2]),
    (IntDistribution(1, 3), [1, 2, 3]),
    (IntDistribution(-6, 6, step=3), [-6, 0, 6]),
    (IntDistribution(1, 1000, log=True), [1, 2, 37, 1000]),
    (CategoricalDistribution((False, True)), [False, True]),
    (CategoricalDistribution(("x", 2, None)), ["x", 2, None]),
]


@pytest.mark.parametrize(("distribution", "values"), KINDS)
def test_values_and_codes_survive_the_round_trip(
    distribution: BaseDistribution, values: list[Any]
) -> None:
    dimension = Dimension("p", distribution)
    for value in values:
        code = dimension.encode([value])[0]
        assert 0.0 <= code <= 1.0
        decoded = dimension.decode(code)
        assert decoded == pytest.approx(value) if isinstance(value, float) else decoded == value
        assert type(decoded) is type(value)
    codes = np.r_[0.0, 1.0, np.random.default_rng(0).random(200)]
    for code, snapped in zip(codes, dimension.snap(codes), strict=True):
        value = dimension.decode(float(code))
        assert distribution._contains(distribution.to_internal_repr(value)), (code, value)
        assert dimension.encode([value])[0] == pytest.approx(snapped, abs=1e-12)


def test_uniform_codes_give_every_value_of_a_grid_the_same_share() -> None:
    dimension = Dimension("p", IntDistribution(2, 10, step=2))
    values = [dimension.decode(float(c)) for c in (np.arange(1000) + 0.5) / 1000]
    assert [values.count(v) for v in (2, 4, 6, 8, 10)] == [200] * 5


@pytest.mark.parametrize(
    "distribution", [IntDistribution(1, 7, log=True), CategoricalDistribution(("a", "b", "c"))]
)
def test_grid_holds_the_code_of_every_value(distribution: BaseDistribution) -> None:
    dimension = Dimension("p", distribution)
    grid = dimension.grid()
    assert len(grid) == dimension.n_values
    assert dimension.encode([dimension.decode(float(c)) for c in grid]) == pytest.approx(grid)


def test_values_outside_the_range_move_to_its_nearer_end() -> None:
    dimension = Dimension("p", FloatDistribution(0.0, 1.0))
    assert dimension.encode([-3.0, 9.0]).tolist() == [0.0, 1.0]


A_AND_B = {"a": IntDistribution(0, 4), "b": FloatDistribution(0, 1)}


def test_absent_parameters_become_missing_and_are_left_out_again() -> None:
    encoder = Encoder(A_AND_B)
    X = encoder.encode([{"a": 3}, {"a": 1, "b": 0.5, "unknown": 7}])
    assert X[0, 1] == MISSING
    assert [encoder.decode(x) for x in X] == [{"a": 3}, {"a": 1, "b": 0.5}]


def test_single_valued_parameters_are_left_out() -> None:
    encoder = Encoder({"a": IntDistribution(3, 3), "b": IntDistribution(0, 1)})
    assert encoder.names == ("b",)


def test_keys_tell_configurations_apart_but_not_near_continuous_values() -> None:
    encoder = Encoder(A_AND_B)
    configurations = [{"a": 1, "b": 0.5}, {"a": 1, "b": 0.5 + 1e-5}, {"a": 2, "b": 0.5}, {"a": 1}]
    keys = encoder.keys(encoder.encode(configurations)).tolist()
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_features_put_choices_at_distance_one_and_inactive_parameters_at_none() -> None:
    encoder = Encoder(
        {"c": CategoricalDistribution(("a", "b", "c")), "x": FloatDistribution(0, 1)}
    )
    for x in ({"x": 0.2}, {}):
        F = encoder.features(encoder.encode([{"c": c, **x} for c in "abc"]))
        distances = np.linalg.norm(F[:, None] - F[None], axis=2)
        assert distances == pytest.approx(1.0 - np.eye(3))

"""Synthetic problems have the optimum they claim."""

from __future__ import annotations

import numpy as np
import pytest

from optuna_deepweeds.bench.problems import random_params
from optuna_deepweeds.bench.synthetic import FUNCTIONS, SyntheticFunction
from optuna_deepweeds.seeds import generator
from optuna_deepweeds.spaces import contains


@pytest.fixture(params=sorted(FUNCTIONS))
def function(request: pytest.FixtureRequest) -> SyntheticFunction:
    return FUNCTIONS[request.param]


def test_minimiser_lies_in_the_space_and_has_the_minimum(function: SyntheticFunction) -> None:
    assert function.space.problem(function.minimiser) is None
    assert function.function(function.minimiser) == pytest.approx(function.minimum, abs=1e-9)


def test_no_random_or_nearby_configuration_is_better(function: SyntheticFunction) -> None:
    rng = generator(7, function.name)
    for _ in range(500):
        params = random_params(function.space, rng)
        assert function.function(params) >= function.minimum - 1e-9
        # The minimiser with one value replaced, where that leaves the other ones active.
        name = str(rng.choice(list(params)))
        mutant = {**function.minimiser, **params, **function.minimiser, name: params[name]}
        mutant = function.space.project(mutant)
        if function.space.problem(mutant) is None:
            assert function.function(mutant) >= function.minimum - 1e-9


def test_random_params_are_active_and_inside(function: SyntheticFunction) -> None:
    rng = generator(3, function.name)
    for _ in range(200):
        params = random_params(function.space, rng)
        assert tuple(params) == function.space.active(params)
        for name, value in params.items():
            assert contains(function.space[name].distribution, value)


def test_random_params_repeat_for_a_seed_and_differ_between_labels() -> None:
    space = FUNCTIONS["mixed"].space
    draws = [random_params(space, generator(1, label)) for label in ("a", "a", "b")]
    assert draws[0] == draws[1] != draws[2]


def test_integer_grid_points_are_equally_likely() -> None:
    space = FUNCTIONS["mixed"].space
    rng = np.random.default_rng(0)
    counts = np.bincount([random_params(space, rng)["units"] // 16 for _ in range(4000)])[1:]
    assert len(counts) == 8
    assert counts.min() > 400

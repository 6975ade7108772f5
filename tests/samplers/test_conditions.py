from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import IntDistribution

from optuna_deepweeds.samplers.acquisition import CandidateSpace, maximise
from optuna_deepweeds.samplers.conditions import DeclaredConditions, LearntConditions
from optuna_deepweeds.samplers.encoding import MISSING, Encoder
from optuna_deepweeds.spaces import SPACES, Condition, Parameter, SearchSpace
from tests.samplers.problems import CONDITIONAL


@pytest.mark.parametrize("space", [CONDITIONAL, *SPACES.values()], ids=lambda space: space.name)
def test_declared_conditions_give_points_of_the_space(space: SearchSpace) -> None:
    encoder = Encoder(space.distributions)
    conditions = DeclaredConditions(space, encoder)
    full = encoder.snap(np.random.default_rng(0).random((300, len(encoder))))
    # What has a single value has no column.
    single = {p.name: p.distribution.low for p in space.parameters if p.distribution.single()}
    for x in conditions.apply(full):
        params = single | encoder.decode(x)
        assert space.problem(params) is None
        assert set(space.active(params)) >= set(params)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_a_parent_with_one_value_decides_for_all(n_layers: int) -> None:
    space = SearchSpace(
        "fixed",
        (
            Parameter("n_layers", IntDistribution(n_layers, n_layers)),
            Parameter("width", IntDistribution(1, 9), Condition("n_layers", at_least=2)),
        ),
    )
    encoder = Encoder(space.distributions)
    x = DeclaredConditions(space, encoder).apply(np.full((1, 1), 0.5))[0]
    assert (x[0] == MISSING) == (n_layers == 1)


def test_learnt_conditions_agree_with_the_declared_ones_after_enough_trials() -> None:
    encoder = Encoder(CONDITIONAL.distributions)
    declared = DeclaredConditions(CONDITIONAL, encoder)
    rng = np.random.default_rng(0)
    seen = declared.apply(encoder.snap(rng.random((60, len(encoder)))))
    new = encoder.snap(rng.random((500, len(encoder))))
    assert (LearntConditions(seen).apply(new) == declared.apply(new)).all()


def test_without_absent_parameters_nothing_is_conditional() -> None:
    X = np.random.default_rng(0).random((20, 3))
    assert (LearntConditions(X).apply(X) == X).all()


def test_maximise_finds_the_best_configuration_and_never_a_taken_one() -> None:
    encoder = Encoder(CONDITIONAL.distributions)
    space = CandidateSpace(encoder, DeclaredConditions(CONDITIONAL, encoder))
    rng = np.random.default_rng(0)
    target = encoder.encode([{"n_layers": 1, "width_0": 20, "kind": "a"}])

    def closeness(X: np.ndarray) -> np.ndarray:
        return -np.abs(X - target).sum(axis=1)

    observed = space.random(5, rng)
    best = maximise(closeness, space, observed, np.empty(0, dtype=np.uint64), rng)
    assert encoder.decode(best) == {"n_layers": 1, "width_0": 20, "kind": "a"}
    second = maximise(closeness, space, observed, space.keys(target), rng)
    assert encoder.decode(second) in (
        {"n_layers": 1, "width_0": 19, "kind": "a"},
        {"n_layers": 1, "width_0": 21, "kind": "a"},
    )

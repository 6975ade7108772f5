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
    for x in conditions.apply(full):
        params = encoder.decode(x)
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


def _space() -> tuple[Encoder, CandidateSpace]:
    encoder = Encoder(CONDITIONAL.distributions)
    return encoder, CandidateSpace(encoder, DeclaredConditions(CONDITIONAL, encoder))


def test_neighbours_reach_every_value_of_a_short_parameter() -> None:
    encoder, space = _space()
    start = encoder.encode([{"n_layers": 1, "width_0": 8, "kind": "a"}])
    neighbours = space.neighbours(start, np.random.default_rng(0))
    configurations = [encoder.decode(x) for x in neighbours]
    assert {c["n_layers"] for c in configurations} == {1, 2, 3}
    assert {c["kind"] for c in configurations} == {"a", "b", "c"}
    assert all(CONDITIONAL.problem(c) is None for c in configurations)


def test_maximise_finds_the_best_configuration_and_never_a_taken_one() -> None:
    encoder, space = _space()
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


def test_an_exhausted_space_still_gives_a_configuration() -> None:
    encoder = Encoder({"a": IntDistribution(0, 2)})
    space = CandidateSpace(encoder, LearntConditions(np.empty((0, 1))))
    grid = encoder.encode([{"a": v} for v in range(3)])
    rng = np.random.default_rng(0)
    best = maximise(lambda X: X[:, 0], space, grid, space.keys(grid), rng)
    assert encoder.decode(best) == {"a": 2}

"""Conditional spaces: what exists when, what is a point, what a trial is asked for."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_deepweeds.spaces import SPACES, Condition, Parameter, SearchSpace

NESTED = SearchSpace(
    name="nested",
    parameters=(
        Parameter("kind", CategoricalDistribution(("plain", "deep"))),
        Parameter("depth", IntDistribution(1, 3), Condition("kind", values=("deep",))),
        Parameter("width", FloatDistribution(0, 1), Condition("depth", at_least=2)),
    ),
    constants={"kernel": 3},
)


@pytest.mark.parametrize(
    ("params", "active"),
    [
        ({"kind": "plain"}, ("kind",)),
        ({"kind": "deep"}, ("kind", "depth")),
        ({"kind": "deep", "depth": 1}, ("kind", "depth")),
        ({"kind": "deep", "depth": 2}, ("kind", "depth", "width")),
        ({"kind": "plain", "depth": 3}, ("kind",)),
        ({}, ("kind",)),
    ],
)
def test_a_parameter_exists_where_all_its_ancestors_say_so(
    params: dict[str, object], active: tuple[str, ...]
) -> None:
    assert NESTED.active(params) == active


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"kind": "plain"}, None),
        ({"kind": "plain", "width": 7.0, "colour": 1}, None),
        ({"kind": "deep", "depth": 2, "width": 0.5, "kernel": 3}, None),
        ({}, "kind is missing"),
        ({"kind": "deep", "depth": 2}, "width is missing"),
        ({"kind": "deep", "depth": 4}, "depth must be in"),
        ({"kind": "deep", "depth": 1.5}, "depth must be in"),
        ({"kind": "odd"}, "kind must be in"),
        ({"kind": "deep", "depth": 2, "width": float("nan")}, "width must be in"),
        ({"kind": "plain", "kernel": 5}, "kernel must be 3"),
    ],
)
def test_a_point_is_told_from_what_is_none(params: dict[str, object], problem: str | None) -> None:
    found = NESTED.problem(params)
    assert found is None if problem is None else (found or "").startswith(problem)


def test_a_trial_is_asked_for_active_parameters_only() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        config = NESTED.suggest(trial)
        assert config == {**trial.params, "kernel": 3}
        assert tuple(trial.params) == NESTED.active(trial.params)
        assert {k: trial.distributions[k] for k in trial.params} == {
            k: NESTED[k].distribution for k in trial.params
        }


def test_a_child_declared_before_its_parent_is_refused() -> None:
    child = Parameter("b", IntDistribution(0, 1), Condition("a", at_least=1))
    with pytest.raises(ValueError, match="'b' depends on 'a'"):
        SearchSpace(name="odd", parameters=(child,))


def test_the_course_space_is_the_published_one() -> None:
    space = SPACES["course"]
    assert space.constants == {"kernel_size": 3, "dropout_rate": 0.2}
    assert len(space.parameters) + len(space.constants) == 14
    ranges = {
        name: (d.low, d.high, d.log)
        for name, d in space.distributions.items()
        if isinstance(d, IntDistribution | FloatDistribution)
    }
    first, later = (32, 512, True), (16, 512, True)
    assert ranges == {
        "n_conv_layers": (1, 3, False),
        **{f"n_channels_conv_{i}": first if i == 0 else later for i in range(3)},
        "n_fc_layers": (1, 3, False),
        **{f"n_channels_fc_{i}": first if i == 0 else later for i in range(3)},
        "batch_size": (1, 1000, True),
        "learning_rate_init": (1e-5, 1.0, True),
    }
    assert " ".join(space.active({"n_conv_layers": 2, "n_fc_layers": 1})) == (
        "n_conv_layers use_BN global_avg_pooling n_channels_conv_0 n_channels_conv_1 "
        "n_fc_layers n_channels_fc_0 batch_size learning_rate_init"
    )


@pytest.mark.parametrize("name", ["course", "modern"])
def test_a_configuration_of_the_small_space_is_one_of_the_whole(name: str) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        trial = study.ask()
        config = SPACES[f"{name}-small"].suggest(trial)
        assert SPACES[name].problem(config) is None
        assert SPACES[name].unknown(config) == []

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from optuna_deepweeds.attributes import SUGGESTED
from optuna_deepweeds.samplers import (
    PriorSource,
    RandomForestEISampler,
    SourceMatch,
    summarise_sources,
)
from optuna_deepweeds.samplers.encoding import MISSING, Encoder
from optuna_deepweeds.samplers.transfer import PATIENCE, PriorMean, Transfer, match_source
from optuna_deepweeds.spaces import Parameter, SearchSpace
from tests.samplers.problems import CONDITIONAL

PLANE = SearchSpace(
    "plane",
    (Parameter("x", FloatDistribution(0, 1)), Parameter("y", FloatDistribution(0, 1))),
    constants={"z": 3},
)


def _height(x: float, y: float) -> float:
    return -((x - 0.8) ** 2) - (y - 0.3) ** 2


def _source(
    name: str = "sister", sign: float = 1.0, n: int = 80, *, shuffled: bool = False
) -> PriorSource:
    rng = np.random.default_rng(7)
    params = [{"x": float(x), "y": float(y)} for x, y in rng.random((n, 2))]
    # Another level and scale than the target's.
    values = np.array([sign * (500 + 90 * _height(**p)) for p in params])
    return PriorSource(name, params, (rng.permutation(values) if shuffled else values).tolist())


def _best_after(n_trials: int, priors: Sequence[PriorSource], seed: int) -> float:
    sampler = RandomForestEISampler(
        seed=seed, space=PLANE, priors=priors, n_trees=10, n_startup_trials=3
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(
        lambda t: _height(t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)), n_trials
    )
    return study.best_value


def test_good_priors_give_a_head_start_from_the_first_trial_on() -> None:
    informed, alone = (
        [_best_after(3, priors, seed) for seed in range(3)] for priors in ([_source()], [])
    )
    assert max(informed) > -0.05
    assert np.mean(informed) > np.mean(alone)


@pytest.mark.parametrize("misleading", [_source(sign=-1.0), _source(shuffled=True)])
def test_misleading_priors_do_not_ruin_a_study(misleading: PriorSource) -> None:
    assert min(_best_after(20, [misleading], seed) for seed in range(3)) > -0.05


def _prior_mean(sign: float = 1.0, weight: float = 1.0, *, shuffled: bool = False) -> PriorMean:
    source = _source(sign=sign, shuffled=shuffled)
    X, ranks, _ = match_source(source, Encoder(PLANE.distributions), PLANE)
    return PriorMean(X, ranks, weight, np.random.default_rng(0))


def _expected(n: int, *sources: PriorMean) -> tuple[np.ndarray, float]:
    """What is expected at n observations, and its mean product with what was observed there.

    If both are equal, the product is 1.
    """
    X = np.random.default_rng(1).random((n, 2))
    heights = np.array([_height(x, y) for x, y in X])
    y = (heights - heights.mean()) / heights.std()
    expected = Transfer(sources, X, y).predict(X)
    return expected, float((expected * y).mean())


@pytest.mark.parametrize("n", [5, 30])
def test_a_source_that_is_turned_around_serves_as_well_as_an_honest_one(n: int) -> None:
    _, honest = _expected(n, _prior_mean())
    _, turned = _expected(n, _prior_mean(sign=-1.0))
    assert 0.1 < turned < honest * 1.05


def test_a_source_that_says_nothing_loses_its_say() -> None:
    silent, _ = _expected(100, _prior_mean(shuffled=True))
    honest, _ = _expected(100, _prior_mean())
    assert np.abs(silent).mean() < 0.15 * np.abs(honest).mean()


def test_of_several_sources_those_that_agree_count_as_much_as_the_best_alone() -> None:
    alone, agreement = _expected(30, _prior_mean())
    assert _expected(30, _prior_mean(), _prior_mean())[0] == pytest.approx(alone)
    # One that says nothing beside it is outweighed.
    assert _expected(30, _prior_mean(shuffled=True), _prior_mean())[1] > 0.7 * agreement


@pytest.mark.parametrize("trust", [1.0, 0.0])
def test_before_any_observation_the_given_trust_decides(trust: float) -> None:
    transfer = Transfer([_prior_mean(weight=trust)], np.empty((0, 2)), np.empty(0))
    assert transfer.is_active == (trust > 0)


def test_matching_counts_what_was_dropped_imputed_and_ignored() -> None:
    source = PriorSource(
        "other",
        [
            {"x": 0.1, "y": 0.2, "z": 3, "dropout": 0.5},
            {"x": 0.2},
            {"x": 7.0, "y": 0.5},
            {"x": 0.3, "y": 0.4},
            {"x": 0.3, "y": 0.6},
        ],
        [1.0, 2.0, 3.0, float("nan"), 4.0],
    )
    X, ranks, match = match_source(source, Encoder(PLANE.distributions), PLANE)
    assert match == SourceMatch("other", 3, n_dropped=2, n_imputed=1, ignored=("dropout",))
    assert X[:, 1].tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert ranks.tolist() == [1.0, 2.0, 3.0]
    # The user is told the same, source by source.
    assert summarise_sources([_source(n=5), source], PLANE) == [
        SourceMatch("sister", 5, n_dropped=0, n_imputed=0, ignored=()),
        match,
    ]


def test_a_parameter_that_a_source_never_had_is_constant() -> None:
    source = PriorSource("old", [{"x": 0.1}, {"x": 0.5}], [1.0, 2.0])
    X, _, match = match_source(source, Encoder(PLANE.distributions), PLANE)
    assert X[:, 1].tolist() == [0.5, 0.5]
    assert match.n_imputed == 2


def test_inactive_parameters_of_a_source_are_not_imputed() -> None:
    params = {"n_layers": 1, "width_0": 8, "kind": "a"}
    source = PriorSource("old", [params], [1.0])
    X, _, match = match_source(source, Encoder(CONDITIONAL.distributions), CONDITIONAL)
    assert match.n_imputed == 0
    assert (X == MISSING).sum() == 3


def test_impossible_sources_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        RandomForestEISampler(priors=[_source(), _source()])
    with pytest.raises(ValueError, match="same length"):
        PriorSource("s", [{"n": 1}], [1.0, 2.0])
    with pytest.raises(ValueError, match="weight <= 1"):
        PriorSource("s", [{"n": 1}], [1.0], weight=1.5)


def test_a_source_too_small_to_learn_from_changes_nothing() -> None:
    tiny = PriorSource("tiny", [{"x": 0.5, "y": 0.5}] * 2, [1.0, 2.0])
    assert _best_after(6, [tiny], 0) == _best_after(6, [], 0)


def test_priors_without_a_space_are_used_once_the_ranges_are_known() -> None:
    sampler = RandomForestEISampler(seed=0, priors=[_source()], n_trees=10)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    ranges: dict[str, BaseDistribution] = {**PLANE.distributions, "n": IntDistribution(0, 9)}
    for _ in range(3):
        trial = study.ask(ranges)
        study.tell(trial, _height(trial.params["x"], trial.params["y"]))
    # The second trial is a draw without the sources, by which they are judged.
    assert _height(study.trials[2].params["x"], study.trials[2].params["y"]) > -0.1


def test_whatever_is_enqueued_first_some_are_drawn_that_the_sources_are_judged_by() -> None:
    sampler = RandomForestEISampler(seed=1, space=PLANE, priors=[_source()], n_trees=5)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for x in np.linspace(0.6, 0.9, 6):
        study.enqueue_trial({"x": x, "y": 0.3})
    study.optimize(
        lambda t: _height(t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)), 6 + PATIENCE
    )
    told = [trial.user_attrs.get(SUGGESTED) for trial in study.trials]
    assert told == [None] * 6 + ["model", "start"] * (PATIENCE // 2)

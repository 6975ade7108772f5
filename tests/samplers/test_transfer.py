from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from optuna_deepweeds.samplers import PriorSource, RandomForestEISampler, summarise_sources
from optuna_deepweeds.samplers.encoding import MISSING, Encoder
from optuna_deepweeds.samplers.transfer import PriorMean, Transfer, match_source
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
    with_priors = [_best_after(3, [_source()], seed) for seed in range(3)]
    without = [_best_after(3, [], seed) for seed in range(3)]
    assert max(with_priors) > -0.05
    assert np.mean(with_priors) > np.mean(without)


@pytest.mark.parametrize("misleading", [_source(sign=-1.0), _source(shuffled=True)])
def test_misleading_priors_do_not_ruin_a_study(misleading: PriorSource) -> None:
    with_priors = [_best_after(20, [misleading], seed) for seed in range(3)]
    assert min(with_priors) > -0.05


def _prior_mean(sign: float = 1.0, *, shuffled: bool = False) -> PriorMean:
    encoder = Encoder(PLANE.distributions)
    X, ranks, _ = match_source(_source(sign=sign, shuffled=shuffled), encoder, PLANE)
    return PriorMean(X, ranks, 1.0, np.random.default_rng(0))


def _observed(n: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(1).random((n, 2))
    heights = np.array([_height(x, y) for x, y in X])
    return X, (heights - heights.mean()) / heights.std() if n else heights


def _agreement(transfer: Transfer, X: np.ndarray, y: np.ndarray) -> float:
    """Mean product of what is expected and what was observed; 1 if they are equal."""
    return float((transfer.predict(X) * y).mean())


@pytest.mark.parametrize("n", [5, 30])
def test_a_source_that_is_turned_around_serves_as_well_as_an_honest_one(n: int) -> None:
    X, y = _observed(n)
    honest = _agreement(Transfer([_prior_mean()], X, y), X, y)
    turned = _agreement(Transfer([_prior_mean(sign=-1.0)], X, y), X, y)
    assert 0.1 < turned < honest * 1.05


def test_a_source_that_says_nothing_loses_its_say() -> None:
    X, y = _observed(100)
    spread = np.abs(Transfer([_prior_mean(shuffled=True)], X, y).predict(X)).mean()
    assert spread < 0.15 * np.abs(Transfer([_prior_mean()], X, y).predict(X)).mean()


def test_a_source_that_agrees_outweighs_one_that_says_nothing() -> None:
    X, y = _observed(30)
    both = Transfer([_prior_mean(shuffled=True), _prior_mean()], X, y)
    alone = Transfer([_prior_mean()], X, y)
    assert _agreement(both, X, y) > 0.7 * _agreement(alone, X, y)


def test_agreeing_sources_count_together_as_much_as_the_best_of_them() -> None:
    X, y = _observed(30)
    two = Transfer([_prior_mean(), _prior_mean()], X, y)
    assert two.predict(X) == pytest.approx(Transfer([_prior_mean()], X, y).predict(X))


def test_before_any_observation_the_given_trust_decides() -> None:
    X, y = _observed(0)
    X = X.reshape(0, 2)
    assert Transfer([_prior_mean()], X, y).is_active
    encoder = Encoder(PLANE.distributions)
    codes, ranks, _ = match_source(_source(), encoder, PLANE)
    untrusted = PriorMean(codes, ranks, 0.0, np.random.default_rng(0))
    assert not Transfer([untrusted], X, y).is_active


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
    assert (match.n_used, match.n_dropped, match.n_imputed) == (3, 2, 1)
    assert match.ignored == ("dropout",)
    assert X[:, 1].tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert ranks.tolist() == [1.0, 2.0, 3.0]


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


def test_sources_of_the_same_name_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        RandomForestEISampler(priors=[_source(), _source()])


@pytest.mark.parametrize(
    ("values", "weight", "message"),
    [([1.0, 2.0], 1.0, "same length"), ([1.0], 1.5, "weight <= 1")],
)
def test_impossible_sources_are_refused(values: list[float], weight: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PriorSource("s", [{"n": 1}], values, weight)


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


def test_a_summary_tells_what_of_each_source_is_used() -> None:
    outside = PriorSource("outside", [{"x": 2.0, "y": 0.5}], [1.0])
    first, second = summarise_sources([_source(n=5), outside], PLANE)
    assert (first.name, first.n_used, first.n_dropped) == ("sister", 5, 0)
    assert (second.name, second.n_used, second.n_dropped) == ("outside", 0, 1)

"""The chain of trees through learning curves, and what samplers make of it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from optuna_deepweeds.attributes import SUGGESTED
from optuna_deepweeds.pruners import DoraPruner
from optuna_deepweeds.samplers import PriorSource, RandomForestEISampler, make_sampler
from optuna_deepweeds.samplers.chain import CurveChain

NAN = math.nan


def chain(X: np.ndarray, V: np.ndarray, seed: int = 0) -> CurveChain:
    return CurveChain(X, V, np.random.default_rng(seed))


def test_full_curves_are_learnt_and_observed_values_are_kept() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((60, 2))
    end = X[:, 0]
    V = np.stack([0.5 * end, 0.8 * end, end], axis=1)
    drawn = chain(X, V)
    assert drawn.ends == pytest.approx(end)
    new = rng.random((50, 2))
    assert np.abs(drawn.predict(new) - new[:, 0]).mean() < 0.1


def test_short_curves_are_carried_on_to_the_end() -> None:
    X = np.random.default_rng(1).random((40, 1))
    end = X[:, 0]
    V = np.stack([end - 0.5, end], axis=1)
    V[10:, 1] = NAN  # only ten were trained to the end
    assert np.abs(chain(X, V).ends - end).max() < 0.15


def test_order_that_turns_round_loses_its_say() -> None:
    rng = np.random.default_rng(2)
    X = rng.random((80, 1))
    V = np.stack([X[:, 0], 1 - X[:, 0]], axis=1)
    V[30:, 1] = NAN
    low, high = chain(X, V).predict(np.array([[0.1], [0.9]]))
    assert low > high


def test_bad_values_and_gaps_do_not_hide_differences() -> None:
    rng = np.random.default_rng(3)
    X = rng.random((60, 1))
    V = np.stack([X[:, 0], X[:, 0]], axis=1)
    V[:6] = [-math.inf, NAN]
    V[6:9] = [-1e9, -1e9]
    V[9:12, 0] = NAN  # complete, but without a curve
    low, high = chain(X, V).predict(np.array([[0.2], [0.9]]))
    assert np.isfinite(low) and low < high


def test_nothing_but_failures_is_no_reason_to_fail() -> None:
    drawn = chain(np.random.default_rng(4).random((5, 2)), np.full((5, 3), -math.inf))
    assert np.isfinite(drawn.predict(np.zeros((3, 2)))).all()


def pruned_study(n: int, **options: Any) -> optuna.Study:
    """A study in which every trial stops at the step that its number says."""
    sampler = make_sampler("rf_ei", seed=0, **options)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for i in range(n):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        for step in range(1, 2 + i % 4):
            trial.report(x * step / 4, step)
        state = TrialState.COMPLETE if i % 4 == 3 else TrialState.PRUNED
        study.tell(trial, x if i % 4 == 3 else None, state)
    return study


def test_suggestions_say_where_they_came_from() -> None:
    study = pruned_study(60)
    told = [trial.user_attrs[SUGGESTED] for trial in study.trials]
    assert told[:10] == ["start"] * 10
    counts = Counter(told[10:])
    assert counts["model"] > 30 and 1 <= counts["probe"] <= 16
    assert np.median([trial.params["x"] for trial in study.trials[30:]]) > 0.8


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_prior_sources_speak_where_trials_are_stopped_and_cannot_mislead_for_long(
    sign: float,
) -> None:
    grid = np.linspace(0, 1, 30)
    source = PriorSource("old", [{"x": float(x)} for x in grid], (sign * grid).tolist())
    study = pruned_study(40, priors=[source])
    assert np.median([trial.params["x"] for trial in study.trials[25:]]) > 0.8


def test_choice_among_given_configurations_takes_the_model_s_best() -> None:
    study = pruned_study(30)
    candidates = [{"x": x} for x in (0.1, 0.95, 0.5)]
    sampler = study.sampler
    assert isinstance(sampler, RandomForestEISampler)
    found: Counter[int] = Counter()
    for _ in range(9):
        trial = study.ask()
        found[sampler.suggest_among(study, study.trials[trial.number], candidates)] += 1
    assert found[1] >= 7


def test_dora_lets_probes_go_on() -> None:
    study = optuna.create_study(pruner=DoraPruner(max_resource=20, thaw=True))
    assert isinstance(study.pruner, DoraPruner)
    for i in range(3):
        study.pruner.next_continuation(study)
        trial = study.ask()
        if i == 0:
            trial.set_user_attr(SUGGESTED, "probe")
        step = 1
        trial.report(1.0, step)
        while not trial.should_prune():
            step += 1
            trial.report(1.0, step)
        study.tell(trial, state=TrialState.PRUNED)
        assert step == (3 if i == 0 else 1)

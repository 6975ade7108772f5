"""How many threads the samplers' linear algebra takes."""

from __future__ import annotations

import optuna
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from optuna_deepweeds.samplers import make_sampler
from optuna_deepweeds.samplers.random_forest_ei import RandomForestEISampler


def _n_threads() -> set[int]:
    return {i["num_threads"] for i in threadpool_info() if i["internal_api"] == "openblas"}


def test_a_suggestion_takes_one_thread_and_gives_the_others_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    fit = RandomForestEISampler._fit

    def watched(*arguments: object) -> object:
        seen.append(_n_threads())
        return fit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RandomForestEISampler, "_fit", watched)
    study = optuna.create_study(sampler=make_sampler("rf_ei", seed=0, n_startup_trials=3))
    with threadpool_limits(2):
        if _n_threads() != {2}:
            pytest.skip("this machine's linear algebra has no threads.")
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
        assert seen == [{1}, {1}]
        assert _n_threads() == {2}

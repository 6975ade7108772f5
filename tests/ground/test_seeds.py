"""One seed a purpose, the same in every process and in every version."""

from __future__ import annotations

import optuna

from optuna_deepweeds.samplers.optuna_samplers import PerTrialSampler
from optuna_deepweeds.seeds import derive, generator
from optuna_deepweeds.tasks import training_seed


def test_purposes_and_seeds_differ() -> None:
    seeds = {
        derive(seed, number, purpose)
        for seed in range(5)
        for number in range(20)
        for purpose in ("training", "evaluation")
    }
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_derivations_are_those_of_every_version() -> None:
    assert derive(7, 3) == 3466196061
    assert derive(7, 3, "training") == 2630976699
    assert generator(7, 3, "candidates").integers(10**6) == 603548


def test_sampler_and_training_of_a_trial_share_no_seed() -> None:
    created: list[int] = []

    def create(seed: int) -> optuna.samplers.BaseSampler:
        created.append(seed)
        return optuna.samplers.RandomSampler(seed)

    for seed in range(5):
        study = optuna.create_study(sampler=PerTrialSampler(create, seed=seed))
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=50)
    training = {training_seed(seed, number) for seed in range(5) for number in range(50)}
    assert len({*created} | training) == 500

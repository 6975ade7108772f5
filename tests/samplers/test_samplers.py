"""Our samplers as a study sees them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial
from threadpoolctl import threadpool_info, threadpool_limits

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers import SAMPLERS, RandomForestEISampler, make_sampler
from optuna_deepweeds.samplers.encoding import Encoder
from optuna_deepweeds.spaces import SearchSpace
from tests.samplers.problems import CONDITIONAL, conditional_objective, params_of, run

N_TRIALS = 12
OPTIONS: dict[str, dict[str, Any]] = {
    "gp": {"n_startup_trials": 8},
    "rf_ei": {"n_trees": 5, "n_startup_trials": 6},
    "dngo": {"n_networks": 1, "n_startup_trials": 6},
}
OURS = ("rf_ei", "dngo")


def _unit_cube(n: int) -> dict[str, BaseDistribution]:
    return {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(n)}


def _sampler(name: str, seed: int | None = 1) -> optuna.samplers.BaseSampler:
    space = CONDITIONAL if name in OURS else None
    return make_sampler(name, seed=seed, space=space, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_interrupted_and_resumed_study_equals_an_uninterrupted_one(
    name: str, tmp_path: Path
) -> None:
    whole = params_of(run(_sampler(name), N_TRIALS))
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    for part in (5, 4, N_TRIALS - 9):
        # Every part starts with a new sampler, as a new process does.
        study = run(_sampler(name), part, storage=storage, study_name="interrupted")
    assert params_of(study) == whole


@pytest.mark.parametrize("name", SAMPLERS)
def test_other_seeds_and_no_seed_give_other_trials(name: str) -> None:
    tried = [params_of(run(_sampler(name, seed), 3)) for seed in (1, 2, None, None)]
    assert all(tried.count(params) == 1 for params in tried)


def _python(code: str, **environment: str) -> str:
    """What another process prints that runs `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_same_seed_gives_the_same_trials_in_another_process() -> None:
    code = "params_of(run(make_sampler('rf_ei', seed=1, n_trees=5), 14))"
    imports = (
        "from optuna_deepweeds.samplers import make_sampler;"
        "from tests.samplers.problems import run, params_of;"
        "import optuna; optuna.logging.set_verbosity(optuna.logging.ERROR);"
    )
    outputs = {_python(f"{imports}print({code})", PYTHONHASHSEED=seed) for seed in ("1", "2")}
    assert outputs == {f"{eval(code)}\n"}


@pytest.mark.parametrize("name", OURS)
def test_eight_parallel_workers_try_no_configuration_twice_while_there_are_others(
    name: str,
) -> None:
    distributions = {"a": IntDistribution(0, 5), "b": CategoricalDistribution(("x", "y", "z"))}
    sampler = make_sampler(name, seed=0, **{**OPTIONS[name], "n_startup_trials": 0})
    study = optuna.create_study(sampler=sampler)
    study.tell(study.ask(distributions), 1.0)
    for _ in range(2):
        trials = [study.ask(distributions) for _ in range(8)]
        for trial in trials:
            study.tell(trial, float(trial.params["a"]))
    seen = [tuple(params.values()) for params in params_of(study)]
    assert len(set(seen)) == len(seen) == 17
    # The last free one, and when none is left something all the same.
    assert tuple(study.ask(distributions).params.values()) not in seen
    assert study.ask(distributions).params


@pytest.mark.parametrize("space", [CONDITIONAL, None], ids=["declared", "learnt"])
def test_conditional_spaces_are_searched_better_than_at_random(space: SearchSpace | None) -> None:
    ours, at_random = (
        sum(run(make_sampler(name, seed=seed, space=space), 24).best_value for seed in range(3))
        for name in ("rf_ei", "random")
    )
    assert ours > at_random


def test_suggestions_of_a_declared_space_hold_its_active_parameters_alone() -> None:
    study = run(_sampler("rf_ei"), 10)
    asked = study.ask()
    relative = study.sampler.sample_relative(
        study, study.get_trials()[asked.number], CONDITIONAL.distributions
    )
    assert tuple(relative) == CONDITIONAL.active(relative)


def test_a_failing_region_is_avoided() -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("c", ["a", "b"])
        if x > 0.4:
            raise RuntimeError
        return x

    sampler = make_sampler("rf_ei", seed=0, n_trees=10)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=40, catch=RuntimeError)
    failed = [t.state == TrialState.FAIL for t in study.get_trials()]
    # Uniform draws fail in 12 of 20, and the best values lie at the border.
    assert sum(failed[20:]) < 10
    assert study.best_value > 0.3


def test_one_sampler_serves_two_studies_in_turn() -> None:
    sampler = _sampler("rf_ei")
    studies = [optuna.create_study(sampler=sampler, direction="maximize") for _ in range(2)]
    for _ in range(10):
        for study in studies:
            study.optimize(conditional_objective, n_trials=1)
    alone = params_of(run(_sampler("rf_ei"), 10))
    assert [params_of(study) for study in studies] == [alone, alone]


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_can_be_sent_to_other_processes(name: str) -> None:
    sampler = _sampler(name)
    run(sampler, 7)
    copy = pickle.loads(pickle.dumps(sampler))
    assert params_of(run(copy, 8)) == params_of(run(_sampler(name), 8))


@pytest.mark.parametrize("n_jobs", [1, 4])
def test_samplers_work_within_hyperband_and_in_several_threads(n_jobs: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        params = CONDITIONAL.suggest(trial)
        for step in range(9):
            trial.report(params["width_0"] * step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(params["width_0"])

    study = optuna.create_study(
        sampler=_sampler("rf_ei"),
        pruner=optuna.pruners.HyperbandPruner(max_resource=9),
        direction="maximize",
    )
    study.optimize(objective, n_trials=15, n_jobs=n_jobs)
    assert len(study.trials) == 15


WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, *_):
        absent = "torch torchvision pandas PIL click jinja2 rich plotly optuna_dashboard"
        if name.partition(".")[0] in absent.split():
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import optuna
from optuna_deepweeds.pruners import DoraPruner
from optuna_deepweeds.samplers import DNGOSampler, RandomForestEISampler
optuna.logging.set_verbosity(optuna.logging.ERROR)
def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    for step in range(1, 10):
        trial.report(x + 1 / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x
for kind in (RandomForestEISampler, DNGOSampler):
    sampler, pruner = kind(seed=0, n_startup_trials=2), DoraPruner(max_resource=9)
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=9)
    assert {t.state.name for t in study.trials} == {"COMPLETE", "PRUNED"}
"""


def test_our_classes_work_where_torch_is_not_installed() -> None:
    _python(WITHOUT_TORCH)


def test_optunas_samplers_keep_nothing_of_told_trials() -> None:
    sampler = make_sampler("tpe", seed=0)
    sizes = {len(pickle.dumps(sampler)) for _ in range(3) if run(sampler, 5)}
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rfei", {}, "random, tpe, gp, rf_ei, dngo, but got 'rfei'"),
        *((name, {"n_tres": 3}, "n_tres") for name in SAMPLERS),
        ("rf_ei", {"n_startup_trials": -1}, "n_startup_trials=-1"),
        ("rf_ei", {"n_trees": 0}, "n_trees=0"),
        ("rf_ei", {"seed": -1}, "seed=-1"),
        ("rf_ei", {"seed": 1.5}, "`seed` must be a whole number, but got 1.5"),
        ("rf_ei", {"n_trees": "20"}, "`n_trees` must be a whole number, but got '20'"),
        ("rf_ei", {"n_startup_trials": 2.5}, "`n_startup_trials` must be a whole number"),
    ],
)
def test_unknown_names_and_impossible_options_are_refused_at_once(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make_sampler(name, **options)


def test_what_a_trial_is_enqueued_with_decides_the_rest() -> None:
    def objective(trial: optuna.Trial) -> float:
        return -abs(trial.suggest_float("x", 0, 1) - trial.suggest_float("y", 0, 1))

    study = run(make_sampler("rf_ei", seed=0), 25, objective=objective)
    for x in (0.05, 0.35, 0.65, 0.95):
        study.enqueue_trial({"x": x, "unknown": 1})
        study.optimize(objective, n_trials=1)
        assert study.trials[-1].params["x"] == x
        assert study.trials[-1].value == pytest.approx(0.0, abs=0.1)


ODD_RANGES: dict[str, BaseDistribution] = {
    "constant": FloatDistribution(3.0, 3.0),
    "stepped": FloatDistribution(-0.3, 0.9, step=0.3),
    "coarse": FloatDistribution(-1e307, 1e307, step=1e306),
    "huge": FloatDistribution(-1e308, 1e308),
    "tiny": FloatDistribution(1e-300, 1e300, log=True),
    "many": IntDistribution(-(2**62), 2**62),
    "layers": IntDistribution(1, 2**40, log=True),
    "even": IntDistribution(2, 2**50, step=2),
    "kind": CategoricalDistribution((None, "a", 1.5)),
}


@pytest.mark.parametrize("name", OURS)
def test_ranges_of_any_size_are_searched(name: str) -> None:
    study = optuna.create_study(sampler=make_sampler(name, seed=0, n_startup_trials=4))
    for i in range(14):
        trial = study.ask(ODD_RANGES)
        for key, value in trial.params.items():
            assert ODD_RANGES[key]._contains(ODD_RANGES[key].to_internal_repr(value)), (key, value)
        study.tell(trial, float(i % 5))


def test_what_runs_is_encoded_once_however_many_trials_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = optuna.create_study(sampler=make_sampler("rf_ei", seed=0, n_startup_trials=0))
    ranges = _unit_cube(2)
    study.tell(study.ask(ranges), 1.0)
    for x in np.random.default_rng(0).random((300, 2)).tolist():
        params = dict(zip(ranges, x, strict=True))
        study.add_trial(
            create_trial(state=TrialState.RUNNING, params=params, distributions=ranges)
        )
    n_encoded = []
    encode = Encoder.encode

    def counted(self: Encoder, configurations: Sequence[Mapping[str, Any]]) -> np.ndarray:
        n_encoded.append(len(configurations))
        return encode(self, configurations)

    monkeypatch.setattr(Encoder, "encode", counted)
    for n_new in (301, 1, 1):  # all at first, then only who asked the last time
        n_encoded.clear()
        study.ask(ranges)
        assert sum(n_encoded) == n_new


def test_a_branch_that_looks_bad_at_first_is_still_tuned() -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("branch", ["easy", "hard"]) == "easy":
            return 0.5 - 0.01 * abs(trial.suggest_float("x", 0, 1) - 0.5)
        return 1.0 - 3.0 * abs(trial.suggest_float("y", 0, 1) - 0.07)

    study = run(make_sampler("rf_ei", seed=3, n_trees=10), 50, objective=objective)
    tried = [trial.params["branch"] for trial in study.get_trials()]
    assert tried[20:].count("hard") >= 3
    assert study.best_value > 0.5


@pytest.mark.parametrize("name", OURS)
def test_a_long_study_does_not_forget_what_is_bad(name: str) -> None:
    """330 trials, more than a process is conditioned on: most of them near the optimum."""
    ranges = _unit_cube(4)
    rng = np.random.default_rng(0)

    def value(params: dict[str, float]) -> float:
        x = np.array(list(params.values())) - 0.5
        is_bad = np.abs(x).max() > 0.25
        return 0.1 if is_bad else 0.6 - float((x**2).sum() + rng.normal(0.0, 0.02))

    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, seed=0))
    for i in range(330):
        x = rng.random(4) if i % 8 == 0 else rng.normal(0.5, 0.05, 4).clip(0.3, 0.7)
        params = dict(zip(ranges, x.tolist(), strict=True))
        study.add_trial(create_trial(params=params, distributions=ranges, value=value(params)))
    for _ in range(12):
        trial = study.ask(ranges)
        study.tell(trial, value(trial.params))
    assert [trial.value for trial in study.trials[-12:]].count(0.1) <= 6


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

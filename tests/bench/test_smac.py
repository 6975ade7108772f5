"""The bridge to SMAC3: translation of spaces and values, and failures of the other side."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds.bench import smac
from optuna_deepweeds.bench.problems import load_problem
from optuna_deepweeds.bench.smac import SmacSampler
from optuna_deepweeds.errors import DeepWeedsError


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smac, "_SERVER", Path(__file__).with_name("smac_stub.py"))


def _sampler(task: str, seed: int = 0, python: str | None = sys.executable) -> SmacSampler:
    space = load_problem(task).space
    return SmacSampler(space, seed=seed, n_trials=20, python=python, options={})


def _ask_and_tell(task: str, n_trials: int, sampler: SmacSampler) -> None:
    problem = load_problem(task)
    study = optuna.create_study(sampler=sampler, direction=problem.direction)
    with closing(sampler):
        for _ in range(n_trials):
            trial = study.ask()
            params = trial.relative_params
            assert problem.space.problem(params) is None
            assert tuple(params) == problem.space.active(params)
            problem.space.suggest(trial)
            assert trial.params == params
            study.tell(trial, problem.score(params))


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("task", ["mixed", "nested", "course_like"])
def test_every_configuration_is_a_point_of_the_space(task: str) -> None:
    _ask_and_tell(task, 40, _sampler(task))


@pytest.mark.usefixtures("stub")
def test_failure_of_the_other_side_is_told() -> None:
    with pytest.raises(DeepWeedsError, match="smac failed: broken"):
        _ask_and_tell("branin", 2, _sampler("branin", seed=13))


def test_without_interpreter_or_smac_the_error_says_what_to_do() -> None:
    with pytest.raises(DeepWeedsError, match="--smac-python"):
        _sampler("branin", python=None)
    with pytest.raises(DeepWeedsError, match="must be an interpreter"):
        _sampler("branin", python="/no/such/python")
    if importlib.util.find_spec("smac") is None:
        with pytest.raises(DeepWeedsError, match="the process of smac ended"):
            _sampler("branin")


@pytest.mark.slow
@pytest.mark.skipif(
    "SMAC_PYTHON" not in os.environ, reason="SMAC_PYTHON names no interpreter with SMAC3"
)
@pytest.mark.parametrize("task", ["mixed", "course_like"])
def test_real_smac_stays_inside_the_space(task: str) -> None:
    _ask_and_tell(task, 12, _sampler(task, python=os.environ["SMAC_PYTHON"]))

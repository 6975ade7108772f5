"""The bridge to SMAC3: translation of spaces and values, and failures of the other side."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from optuna_deepweeds.bench import smac
from optuna_deepweeds.bench.problems import load_problem
from optuna_deepweeds.bench.smac import SmacOptimiser
from optuna_deepweeds.errors import DeepWeedsError


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smac, "_SERVER", Path(__file__).with_name("smac_stub.py"))


def _optimiser(task: str, seed: int = 0, python: str | None = sys.executable) -> SmacOptimiser:
    return SmacOptimiser(load_problem(task), seed=seed, n_trials=20, python=python, options={})


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("task", ["mixed", "nested", "course_like"])
def test_every_configuration_is_a_point_of_the_space(task: str) -> None:
    optimiser, problem = _optimiser(task), load_problem(task)
    try:
        for _ in range(40):
            params = optimiser.ask()
            assert problem.space.problem(params) is None
            assert tuple(params) == problem.space.active(params)
            optimiser.tell(problem.score(params))
    finally:
        optimiser.close()


@pytest.mark.usefixtures("stub")
def test_failure_of_the_other_side_is_told() -> None:
    optimiser = _optimiser("branin", seed=13)
    optimiser.ask()
    with pytest.raises(DeepWeedsError, match="SMAC failed: broken"):
        optimiser.ask()
    optimiser.close()


def test_without_interpreter_or_smac_the_error_says_what_to_do() -> None:
    with pytest.raises(DeepWeedsError, match="--smac-python"):
        _optimiser("branin", python=None)
    with pytest.raises(DeepWeedsError, match="must be an interpreter"):
        _optimiser("branin", python="/no/such/python")
    if not _has_smac():
        with pytest.raises(DeepWeedsError, match="the SMAC process ended"):
            _optimiser("branin")


def _has_smac() -> bool:
    import importlib.util

    return importlib.util.find_spec("smac") is not None


@pytest.mark.slow
@pytest.mark.skipif(
    "SMAC_PYTHON" not in os.environ, reason="SMAC_PYTHON names no interpreter with SMAC3"
)
@pytest.mark.parametrize("task", ["mixed", "course_like"])
def test_real_smac_stays_inside_the_space(task: str) -> None:
    optimiser = _optimiser(task, python=os.environ["SMAC_PYTHON"])
    problem = load_problem(task)
    try:
        for _ in range(12):
            params = optimiser.ask()
            assert problem.space.problem(params) is None
            optimiser.tell(problem.score(params))
    finally:
        optimiser.close()

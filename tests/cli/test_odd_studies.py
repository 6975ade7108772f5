"""Reading commands on studies of every odd kind, made by plain Optuna without this package."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest

from tests.cli.conftest import Command

URL = "sqlite:///studies.db"


def quadratic(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -5, 5)
    if trial.suggest_categorical("kind", ["a", None, True]) == "a":
        trial.suggest_int("only_a", 1, 100, log=True)
    for step in range(0, 50, 10):
        trial.report(x * x + 5 - step / 10, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x * x


def failing(trial: optuna.Trial) -> float:
    trial.suggest_float("x", 0, 1)
    raise ValueError


def fill(study: optuna.Study, kind: str) -> None:
    """Put into a minimising study what `kind` says."""
    if kind in ("minimise", "one trial"):
        study.optimize(quadratic, n_trials=1 if kind == "one trial" else 12)
    elif kind == "failures only":
        study.optimize(failing, n_trials=2, catch=(ValueError,))
    elif kind == "priors only":
        study.set_user_attr("deepweeds:spec", {"dataset": "demo", "priors": "gone:priors"})
        study.set_user_attr("deepweeds:prior_summary", {"runs": {"read": 1, "added": 1}})
    elif kind == "running only":
        study.ask().suggest_float("x", 0, 1)
    elif kind == "waiting only":
        study.enqueue_trial({"x": 1})


KINDS = ("minimise", "one trial", "failures only", "priors only", "running only", "waiting only",
         "empty")  # fmt: skip
READERS: dict[str, Callable[[str], list[str]]] = {
    "status": lambda name: ["status", name],
    "trials": lambda name: ["trials", name, "--priors", "--params"],
    "failures": lambda name: ["trials", name, "--failed", "--traceback"],
    "report": lambda name: ["report", name, "--png", "png"],
    "compare": lambda name: ["compare", name, "--html", "c.html"],
    "export": lambda name: ["export", name, "study.jsonl"],
    "best": lambda name: ["best", name],
    "list": lambda name: ["list"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_reading_command_fails(command: Command, kind: str) -> None:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
    # Under the folder that `command` made the current one.
    study = optuna.create_study(
        storage=URL, study_name=kind, pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=1)
    )
    fill(study, kind)
    for reader, arguments in READERS.items():
        result = command("study", *arguments(kind), "--storage", URL)
        if reader == "best" and kind not in ("minimise", "one trial"):
            assert result.code == 3 and "has no finished trial yet" in result.err
        else:
            assert result.code == 0, f"{reader}: {result.err}"


def test_smallest_value_is_the_best_of_a_minimising_study(command: Command) -> None:
    study = optuna.create_study(storage=URL, study_name="s")
    fill(study, "minimise")
    result = command("study", "best", "s", "--storage", URL, "-f", "json")
    assert f'"number": {study.best_trial.number}' in result.out


def test_several_objectives_are_refused_in_one_line(command: Command) -> None:
    optuna.create_study(storage=URL, study_name="two", directions=["minimize", "maximize"])
    for name in ("status", "best", "trials", "report", "compare", "stop"):
        result = command("study", name, "two", "--storage", URL)
        assert result.code == 2 and "one objective" in result.err
        assert len(result.err.splitlines()) == 1

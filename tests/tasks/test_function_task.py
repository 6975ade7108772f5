"""Any Optuna objective as a task: found by its file, called by its form, ended by its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.tasks import Allowance, FunctionTask, Run
from optuna_deepweeds.tasks.run import TrialInterrupted

OBJECTIVE = """
import optuna
from neighbour import SCALE

def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    for step in range(1, 5):
        trial.report(SCALE * step * x, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return SCALE * 4 * x
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("SCALE = 2.0\n")
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    return tmp_path / "mine.py"


class _Stopping(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.last_step == 2


def called(task: FunctionTask, folder: Path, **options: Any) -> tuple[object, list[int]]:
    """The value of a trial with x = 0.5, or what ended it, and the steps that it reported."""
    study = optuna.create_study(direction="maximize", pruner=_Stopping())
    study.enqueue_trial({"x": 0.5})
    trial = study.ask()
    run = Run(trial, config={}, seed=0, epochs=4, checkpoint=folder / "t.pt", **options)
    ended: object
    try:
        ended = task(trial, run)
    except Exception as error:
        ended = type(error)
    curve = study.get_trials()[0].intermediate_values
    assert all(value == step for step, value in curve.items())
    return ended, list(curve)


def test_an_objective_is_found_by_its_file_and_told_from_a_changed_one(file: Path) -> None:
    task = FunctionTask(f"{file}:objective", max_resource=4)
    assert task.name == f"{file}:objective" and task.space is None
    file.write_text(OBJECTIVE + "\n# changed\n")
    assert FunctionTask(f"{file}:objective").fingerprint != task.fingerprint


@pytest.mark.parametrize(
    ("options", "ended", "steps"),
    [
        ({}, optuna.TrialPruned, [1, 2]),
        ({"allowance": Allowance(must_finish=True)}, 4.0, [1, 2, 3, 4]),
        ({"allowance": Allowance(epochs=1)}, TrialInterrupted, [1]),
        ({"asked_to_stop": lambda: True}, TrialInterrupted, [1]),
    ],
    ids=["pruner", "must finish", "allowance", "stop"],
)
def test_a_plain_objective_ends_where_its_run_does(
    file: Path, options: dict[str, Any], ended: object, steps: list[int]
) -> None:
    task = FunctionTask(f"{file}:objective")
    assert called(task, file.parent, **options) == (ended, steps)


def test_an_objective_that_takes_a_run_is_given_one(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial, run: Run | None = None) -> float:
        assert run is not None
        run.report(1.0, 1)
        return trial.suggest_float("x", 0, 1)

    assert called(FunctionTask(objective), tmp_path) == (0.5, [1])


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("mine:objective", InvalidInputError, "`file.py:NAME`, but got 'mine:objective'"),
        ("none.py:objective", NotFoundError, "no file none.py"),
        ("mine.py:objectiv", InvalidInputError, "Did you mean 'objective'"),
        ("broken.py:objective", InvalidInputError, "SyntaxError"),
    ],
)
def test_what_is_no_objective_is_one_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: type[Exception], words: str
) -> None:
    monkeypatch.chdir(file.parent)
    Path("broken.py").write_text("def (")
    with pytest.raises(error) as caught:
        FunctionTask(place)
    assert words in str(caught.value) and "\n" not in str(caught.value)

"""Any Optuna objective as a task: found by its file, called by its form, ended by its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.spaces import Condition, Parameter, SearchSpace
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
    except (Exception, TrialInterrupted) as error:
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


def test_an_objective_that_catches_every_failure_is_interrupted_all_the_same(
    tmp_path: Path,
) -> None:
    def objective(trial: optuna.Trial) -> float:
        try:
            trial.report(1.0, 1)
        except Exception:
            return float("inf")
        return 1.0

    ended = called(FunctionTask(objective), tmp_path, asked_to_stop=lambda: True)
    assert ended == (TrialInterrupted, [1])


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
        ("odd.py:objective", InvalidInputError, "METRIC must be a text, but is 1"),
    ],
)
def test_what_is_no_objective_is_one_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: type[Exception], words: str
) -> None:
    monkeypatch.chdir(file.parent)
    Path("broken.py").write_text("def (")
    Path("odd.py").write_text("METRIC = 1\ndef objective(trial): return 1.0")
    with pytest.raises(error) as caught:
        FunctionTask(place)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_is_written_whole_into_a_folder_that_is_there(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial, run: Run) -> float:
        run.report(trial.suggest_float("x", 0, 1), 1, save=lambda path: path.write_text("half"))

        def fail(path: Path) -> None:
            path.write_text("ha")
            raise OSError("disk full")

        run.report(2.0, 4, save=fail)
        return 2.0

    study = optuna.create_study()
    file = tmp_path / "not" / "there" / "t.pt"
    run = Run(study.ask(), config={}, seed=0, epochs=4, checkpoint=file)
    with pytest.raises(InvalidInputError, match="disk full"):
        FunctionTask(objective)(run._trial, run)
    assert file.read_text() == "half"
    assert [path.name for path in file.parent.iterdir()] == ["t.pt"]


def test_steps_from_0_on_are_counted_from_1(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> float:
        for step in range(2):
            trial.report(step + 1.0, step)
        return trial.suggest_float("x", 0, 1)

    assert called(FunctionTask(objective), tmp_path) == (0.5, [1, 2])


@pytest.mark.parametrize(
    ("steps", "save", "words"),
    [((1, 5), True, "reports steps beyond 4"), ((1, 2), False, "reports without save=...")],
)
def test_what_an_objective_should_do_otherwise_is_said_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    steps: tuple[int, ...],
    save: bool,
    words: str,
) -> None:
    def objective(trial: optuna.Trial, run: Run) -> float:
        for step in steps:
            run.report(float(step), step, save=Path.touch if save else None)
        return trial.suggest_float("x", 0, 1)

    task = FunctionTask(objective)
    for _ in range(2):
        study = optuna.create_study()
        run = Run(study.ask(), config={}, seed=0, epochs=4, checkpoint=tmp_path / "t.pt")
        task(run._trial, run)
    assert [words in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("name", "high", "kind", "words"),
    [
        ("width", 8, 2, None),
        ("width", 9, 2, "width is a whole number from 1 to 9 in the objective and a whole"),
        ("widht", 8, 2, "which the space own does not have. Did you mean 'width'?"),
        ("width", 8, 1, "has none: it has one where kind >= 2"),
    ],
)
def test_an_objective_agrees_with_its_space(
    tmp_path: Path, name: str, high: int, kind: int, words: str | None
) -> None:
    width = Parameter("width", IntDistribution(1, 8), Condition("kind", at_least=2))
    space = SearchSpace("own", (Parameter("kind", IntDistribution(1, 2)), width))

    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_int("kind", 1, 2) + trial.suggest_int(name, 1, high)

    study = optuna.create_study()
    study.enqueue_trial({"kind": kind, "width": 3})
    trial = study.ask()
    run = Run(trial, config=space.suggest(trial), seed=0, epochs=4, checkpoint=tmp_path / "t")
    if words is None:
        assert FunctionTask(objective, space=space)(trial, run) == 5
    else:
        with pytest.raises(InvalidInputError) as caught:
            FunctionTask(objective, space=space)(trial, run)
        assert words in str(caught.value)

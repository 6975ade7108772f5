"""Grids of studies: read strictly, named once, finished when their budget is spent."""

from __future__ import annotations

import itertools
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.studies.experiment import (
    EvaluationPlan,
    Experiment,
    is_finished,
    read_experiment,
    shipped_experiments,
)
from optuna_deepweeds.studies.manager import create_or_continue
from optuna_deepweeds.studies.storage import open_storage

GRID = """
name = "mine"
dataset = "demo"
space = "course-small"
epochs = 2
samplers = ["random", "rf_ei"]
pruners = ["none", "dora"]
seeds = [1, 2]
trials = 3

[priors]
files = ["runs.csv", "sqlite:///a.db#old"]
samplers = ["rf_ei"]
enqueue_best = 1
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.toml"
    path.write_text(text)
    return path


def begun(grid: Experiment, folder: Path) -> optuna.Study:
    """The study of the grid's first cell."""
    cell = grid.cells[0]
    storage = open_storage(f"sqlite:///{folder}/s.db")
    return create_or_continue(cell.name, cell.spec, cell.budget, storage)[0]


def test_grid_has_a_cell_for_every_combination(tmp_path: Path) -> None:
    cells = read_experiment(write(tmp_path, GRID)).cells
    assert len({cell.name for cell in cells}) == 8
    assert [cell.spec.seed for cell in cells] == [1] * 4 + [2] * 4
    last = cells[-1]
    assert last.name == "mine-rf_ei-dora-seed2"
    assert last.spec.thaw and last.spec.epochs == 2 and last.budget.trials == 3
    assert last.priors == (str(tmp_path / "runs.csv"), "sqlite:///a.db#old")
    assert (last.spec.dataset, last.spec.size) == ("demo", 32)
    own = GRID.replace('"demo"', '"./photos"\nsize = 64\ngroup_by = "day."')
    spec = read_experiment(write(tmp_path, own)).cells[0].spec
    assert (spec.dataset, spec.size, spec.group_by) == (str(tmp_path / "photos"), 64, "day.")
    assert cells[0].priors == () and not cells[0].spec.thaw


def test_shipped_grids_and_their_priors_are_there_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grids = {name: read_experiment(Path(name)).cells for name in shipped_experiments()}
    n_cells = {"published": 18, "published-cpu": 12, "small": 12}
    assert {name: len(grids[name]) for name in n_cells} == n_cells
    for cell in itertools.chain(*grids.values()):
        assert all(Path(source).exists() for source in cell.priors)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name =", "nme =", "no key 'nme'. Did you mean 'name'?"),
        ('name = "mine"\n', "", "name must be set"),
        ("trials = 3", "", "one of trials, seconds and total_epochs"),
        ("trials = 3", "trials = 0", "`trials >= 1` must hold"),
        ("trials = 3", "trials = true", "trials must be a whole number, but is True"),
        ("seeds = [1, 2]", "seeds = [1, 1]", "different entries"),
        ("seeds = [1, 2]", "seeds = []", "different entries"),
        ('"random", ', '"rndom", ', "no sampler 'rndom'"),
        ("seeds = [1, 2]", 'seeds = ["one"]', "grid.toml"),
        ("[priors]", "[[priors]]", "priors must be a table of values"),
        ("enqueue_best", "enqueue", "Did you mean 'enqueue_best'?"),
        ("name =", "name", "must be TOML"),
        ("[priors]", "[evaluate]\nseeds = 0\n[priors]", "evaluate: `seeds >= 1` must hold"),
        ("[priors]", '[evaluate]\nrecipe = "x"\n[priors]', "Known: study, tuned"),
        ("[priors]", "[evaluate]\nseed = 1\n[priors]", "Did you mean 'seeds'?"),
    ],
)
def test_wrong_files_are_one_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_experiment(write(tmp_path, GRID.replace(old, new, 1)))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        read_experiment(tmp_path / "none.toml")


def test_cell_is_finished_when_its_budget_is_spent(tmp_path: Path) -> None:
    study = begun(read_experiment(write(tmp_path, GRID)), tmp_path)
    for _ in range(3):
        assert not is_finished(study)
        trial = study.ask()
        assert not is_finished(study)
        study.tell(trial, 0.5)
    assert is_finished(study)


def test_tests_are_done_for_the_best_trial_alone(tmp_path: Path) -> None:
    text = GRID.replace("[priors]", "[evaluate]\nseeds = 2\n\n[priors]")
    grid = read_experiment(write(tmp_path, text))
    assert grid.evaluation == EvaluationPlan(2)
    study = begun(grid, tmp_path)
    study.tell(study.ask(), 0.5)
    assert not grid.evaluation.is_done(study)
    tested = {"trial": 0, "seeds": [0.4], "failures": ["trial 0, seed 1: diverged"]}
    study.set_user_attr(attributes.EVALUATION, {"recipe": "study", "trials": [tested]})
    assert grid.evaluation.is_done(study)
    assert not EvaluationPlan(3).is_done(study)
    assert not EvaluationPlan(2, "tuned").is_done(study)
    study.tell(study.ask(), 0.6)
    assert not grid.evaluation.is_done(study)

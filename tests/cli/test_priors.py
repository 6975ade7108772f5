"""`priors` from the command line."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds.studies.storage import open_storage
from tests.cli.conftest import Command
from tests.priors.conftest import history


@pytest.fixture
def priors(command: Command) -> Command:
    """`priors` beside a file of two good rows and a bad one."""
    Path("priors").mkdir()
    text = history({}, {"cost": "0.3", "config:batch_size": "64"}, {"config:batch_size": "5000"})
    Path("priors/runs.csv").write_text(text)
    return partial(command, "priors")


def test_list_shows_files_and_marks_others(priors: Command) -> None:
    Path("priors/notes.csv").write_text("a,b\n1,2\n")
    rows = priors("list", "-f", "json").json
    assert [(r["where"], r["trials"], r["best"]) for r in rows] == [
        ("priors/notes.csv", None, None),
        ("priors/runs.csv", 3, 0.3),
    ]


def test_list_without_anything_says_so_and_creates_nothing(priors: Command) -> None:
    assert "No prior files" in priors("list", "--dir", "nowhere").err
    assert [p.name for p in Path().iterdir()] == ["priors"]


def test_show_gives_use_and_reason(priors: Command) -> None:
    result = priors("show", "priors/runs.csv", "-f", "csv")
    rows = result.csv
    assert [r["use"] for r in rows] == ["kept", "kept", "dropped"]
    assert (rows[0]["value"], rows[0]["metric"]) == ("0.7", "accuracy")
    assert "but is 5000" in rows[2]["reason"]
    assert "2 kept, 1 dropped" in result.err and "device (3)" in result.err


def test_show_with_a_study_is_what_an_import_does(priors: Command, command: Command) -> None:
    Path("o.py").write_text("def objective(trial):\n    return trial.suggest_float('x', 0, 1)\n")
    text = "Name,State,x,rmse\na,finished,0.5,3.5\nb,finished,7,2\nc,crashed,0.1,1\n"
    Path("runs.csv").write_text(text)
    own = ("--objective", "o.py", "--metric", "rmse", "--direction", "minimize", "--trials", 1)
    assert (
        command("study", "run", "own", *own, "--sampler", "random", "--pruner", "none").code == 0
    )
    wanted = ("runs.csv", "--study", "own", "--metric", "rmse")
    rows = priors("show", *wanted, "-f", "json").json
    assert [(r["use"], r["value"]) for r in rows] == [
        ("kept", 3.5),
        ("dropped", 2),
        ("dropped", 1),
    ]
    assert rows[0]["params"] == {"x": 0.5}
    assert "1 added, 0 enqueued, 2 dropped" in priors("import", *wanted).err


def test_import_twice_list_and_export(priors: Command, studied: Command) -> None:
    args = ("import", "priors/runs.csv", "--study", "mine", "--enqueue-best", "1")
    assert "2 added, 1 enqueued, 1 dropped" in priors(*args).err
    assert "0 added, 0 enqueued, 2 already there" in priors(*args).err
    rows = priors("list", "-f", "json").json
    assert ("study mine", "runs", 2) in [(r["where"], r["source"], r["trials"]) for r in rows]
    nothing = priors("export", "mine", "out.csv")
    assert nothing.code != 0 and "has none" in nothing.err
    study = optuna.load_study(study_name="mine", storage=open_storage())
    study.optimize(lambda trial: trial.suggest_float("learning_rate_init", 1e-5, 1, log=True), 1)
    assert "1 trial written" in priors("export", "mine", "out.csv").err
    assert len(priors("show", "out.csv", "-f", "csv").csv) == 1


def test_study_as_prior_of_another(priors: Command, studied: Command) -> None:
    priors("import", "priors/runs.csv", "--study", "mine")
    rows = priors("show", "sqlite:///storage/optuna.db#mine", "-f", "json").json
    assert [r["use"] for r in rows] == ["kept", "kept"]

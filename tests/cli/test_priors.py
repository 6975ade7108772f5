"""`priors` from the command line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner, Result

from optuna_deepweeds import attributes
from optuna_deepweeds.cli.priors import priors
from optuna_deepweeds.errors import DeepWeedsError, NotFoundError
from tests.priors.conftest import history


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    (tmp_path / "priors").mkdir()
    text = history({}, {"cost": "0.3", "config:batch_size": "64"}, {"config:batch_size": "5000"})
    (tmp_path / "priors" / "runs.csv").write_text(text)
    return tmp_path


@pytest.fixture
def url(here: Path) -> str:
    """A storage with the study `first` over the course space."""
    from optuna_deepweeds.studies.manager import create_or_continue
    from optuna_deepweeds.studies.spec import Budget, StudySpec
    from optuna_deepweeds.studies.storage import open_storage

    url = f"sqlite:///{here}/s.db"
    spec = StudySpec("demo", sampler="random", pruner="none")
    create_or_continue("first", spec, Budget(trials=3), open_storage(url))
    return url


def run(*args: str) -> Result:
    result = CliRunner().invoke(priors, args)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_list_shows_files_and_marks_others(here: Path) -> None:
    (here / "priors" / "notes.csv").write_text("a,b\n1,2\n")
    rows = json.loads(run("list", "-f", "json").stdout)
    assert [(r["where"], r["trials"]) for r in rows] == [
        ("priors/notes.csv", None),
        ("priors/runs.csv", 3),
    ]
    assert rows[1]["best"] == 0.3


def test_list_refuses_a_storage_that_is_named_and_missing(here: Path) -> None:
    with pytest.raises(NotFoundError, match="no file mistyped.db"):
        run("list", "--storage", "mistyped.db")


def test_list_without_anything_says_so_and_creates_nothing(here: Path) -> None:
    result = run("list", "--dir", "nowhere")
    assert "No prior files" in result.stderr
    assert [p.name for p in here.iterdir()] == ["priors"]


def test_show_gives_use_and_reason(here: Path) -> None:
    result = run("show", "priors/runs.csv", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [r["use"] for r in rows] == ["kept", "kept", "dropped"]
    assert (rows[0]["value"], rows[0]["metric"]) == ("0.7", "accuracy")
    assert "but is 5000" in rows[2]["reason"]
    assert "2 kept, 1 dropped" in result.stderr and "device (3)" in result.stderr


def test_show_missing_file_is_not_found(here: Path) -> None:
    with pytest.raises(DeepWeedsError, match="does not exist") as caught:
        run("show", "none.csv")
    assert caught.value.exit_code == 3


def test_import_twice_list_and_export(here: Path, url: str) -> None:
    args = ("import", "priors/runs.csv", "--study", "first", "--storage", url)
    assert "1 added, 1 enqueued, 1 dropped" in run(*args, "--enqueue-best", "1").stderr
    assert "0 added, 0 enqueued, 2 already there" in run(*args, "--enqueue-best", "1").stderr
    rows = json.loads(run("list", "--storage", url, "-f", "json").stdout)
    assert {"where": "study first", "source": "runs", "trials": 1} in [
        {k: r[k] for k in ("where", "source", "trials")} for r in rows
    ]
    with pytest.raises(DeepWeedsError, match="has none"):
        run("export", "first", "out.csv", "--storage", url)
    study = optuna.load_study(study_name="first", storage=url)
    study.optimize(lambda trial: trial.suggest_float("learning_rate_init", 1e-5, 1, log=True), 1)
    assert "1 trial written" in run("export", "first", "out.csv", "--storage", url).stderr
    assert len(run("show", "out.csv", "-f", "csv").stdout.splitlines()) == 2


def test_study_as_prior_of_another(here: Path, url: str) -> None:
    run("import", "priors/runs.csv", "--study", "first", "--storage", url)
    rows = json.loads(run("show", f"{url}#first", "-f", "json").stdout)
    assert [r["use"] for r in rows] == ["kept", "kept"]


def test_import_into_unknown_study_changes_nothing(here: Path, url: str) -> None:
    with pytest.raises(DeepWeedsError, match="frist") as caught:
        run("import", "priors/runs.csv", "--study", "frist", "--storage", url)
    assert caught.value.exit_code == 3


def test_unreadable_file_leaves_the_study_untouched(here: Path, url: str) -> None:
    (here / "bad.csv").write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(DeepWeedsError, match="UTF-8"):
        run("import", "bad.csv", "--study", "first", "--storage", url)
    study = optuna.load_study(study_name="first", storage=url)
    assert not study.trials and attributes.PRIOR_SUMMARY not in study.user_attrs

"""`study report` and `study compare` from the command line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from optuna_deepweeds.cli.report import compare, file_name, report
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.priors import SHIPPED
from optuna_deepweeds.studies.manager import create_or_continue
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from tests.report.conftest import trial_at

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage with two studies `a/1` and `b` of one trial each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    url = f"sqlite:///{tmp_path}/s.db"
    for name, sampler in (("a/1", "random"), ("b", "tpe")):
        spec = StudySpec("demo", sampler=sampler, pruner="none")
        study, _ = create_or_continue(name, spec, Budget(trials=1), open_storage(url))
        study.add_trials([trial_at(0, 1, 0.5, 3)])
    return url


def run(command: object, *args: str) -> Result:
    result = CliRunner().invoke(command, args)  # type: ignore[arg-type]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_report_goes_to_a_file_named_after_the_study(url: str, tmp_path: Path) -> None:
    for name in ("b", "a/1"):
        result = run(report, name, "--storage", url)
        assert not result.stdout
    first, second = sorted((tmp_path / "reports").iterdir())
    assert str(first.relative_to(tmp_path)) in result.stderr
    assert first.name.startswith("a_1-") and second.name == "b.html"
    assert first.stat().st_size > 10_000
    assert f"optuna-deepweeds study resume b --storage {url}<" in second.read_text()


def test_every_study_has_a_file_of_its_own() -> None:
    names = ["a_b", "a/b", "a\\b", "a:b", ".a", "_a", "\nx", "ü" * 300, "ü" * 301]
    made = [file_name(name) for name in names]
    assert len(set(made)) == len(names) and made[0] == "a_b"
    assert all(not set(name) & set("/\\:\n") and len(name.encode()) < 220 for name in made)
    assert not any(name.startswith(".") for name in made)


def test_an_installed_package_has_the_templates_and_the_priors(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(built).namelist())
    templates = (ROOT / "optuna_deepweeds" / "report" / "templates").iterdir()
    assert {f"optuna_deepweeds/report/templates/{path.name}" for path in templates} <= names
    shipped = {f"optuna_deepweeds/priors/shipped/{path.name}" for path in SHIPPED.glob("*.csv")}
    assert shipped and shipped <= names


def test_compare_prints_data_and_says_what_it_means(url: str, tmp_path: Path) -> None:
    result = run(compare, "a/1", "b", "--storage", url, "-f", "json", "--html", "c.html")
    rows = json.loads(result.stdout)
    assert [r["method"] for r in rows] == ["random + none", "tpe + none"]
    assert rows[0]["best"] == 0.5 and rows[0]["epochs"] == 3
    assert "one seed tells too little about chance" in result.stderr
    assert (tmp_path / "c.html").exists()


def test_compare_pairs(url: str) -> None:
    result = run(compare, "a/1", "b", "--storage", url, "-f", "csv", "--pairs")
    assert result.stdout.splitlines()[1].startswith("tpe + none,random + none,1,0.0")


def test_unknown_names_are_refused(url: str) -> None:
    with pytest.raises(NotFoundError, match="'c'"):
        run(compare, "a/1", "c", "--storage", url)
    with pytest.raises(InvalidInputError, match="baseline"):
        run(compare, "a/1", "--storage", url, "--baseline", "x")

"""Studies in a storage that many share, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import multiprocessing
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import select

from optuna_deepweeds.errors import InvalidInputError, NotFoundError, StorageError
from optuna_deepweeds.studies.storage import default_url, open_storage, redact
from optuna_deepweeds.studies.storage._optuna import models
from optuna_deepweeds.studies.storage.engine import resolve_url
from tests.postgres import LocalPostgres

# Imports the package once for all processes.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["optuna_deepweeds.studies.storage", "optuna.study"])


def _open(url: str) -> None:
    open_storage(url).remove_session()


def _run_study(url: str, name: str, n_trials: int) -> None:
    study = optuna.load_study(study_name=name, storage=open_storage(url))
    for _ in range(n_trials):
        trial = study.ask()
        trial.report(trial.suggest_float("x", 0, 1), 1)
        study.tell(trial, trial.params["x"])


def _in_processes(n: int, target: object, *arguments: object) -> list[int | None]:
    processes = [_PROCESSES.Process(target=target, args=arguments) for _ in range(n)]  # type: ignore[arg-type]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def test_workers_may_start_at_once_on_an_empty_database(storage_url: str) -> None:
    assert _in_processes(4, _open, storage_url) == [0] * 4


def test_each_enqueued_trial_is_run_once_by_many_workers(storage_url: str) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(storage_url))
    for i in range(6):
        study.enqueue_trial({"x": i / 100})
    assert _in_processes(3, _run_study, storage_url, "s", 4) == [0] * 3

    trials = study.get_trials(deepcopy=False)
    assert len(trials) == 12
    assert [t.number for t in trials] == list(range(12))
    assert all(t.state == TrialState.COMPLETE for t in trials)
    assert len({t.params["x"] for t in trials}) == 12


@pytest.mark.parametrize("n_studies", [0, 1], ids=["our file", "file made by Optuna"])
def test_sqlite_is_set_up_for_many_workers(tmp_path: Path, n_studies: int) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    if n_studies:
        theirs = optuna.storages.RDBStorage(url)
        optuna.create_study(storage=theirs)
        theirs.engine.dispose()
    storage = open_storage(url)
    assert len(storage.get_all_studies()) == n_studies
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1


def test_empty_storage_is_not_found_by_readers(storage_url: str, tmp_path: Path) -> None:
    if storage_url.startswith("sqlite"):
        (tmp_path / "optuna.db").touch()
    with pytest.raises(NotFoundError):
        open_storage(storage_url, must_exist=True)


def test_read_only_url_reads(tmp_path: Path) -> None:
    optuna.create_study(study_name="s", storage=open_storage(str(tmp_path / "a.db")))
    storage = open_storage(f"sqlite:///file:{tmp_path}/a.db?mode=ro&uri=true", must_exist=True)
    study = optuna.load_study(study_name="s", storage=storage)
    with pytest.raises(StorageError, match="readonly"):
        study.set_user_attr("a", 1)


@pytest.mark.postgres
def test_role_that_may_only_read_reads(postgres: LocalPostgres) -> None:
    import psycopg

    url = postgres.new_database()
    optuna.create_study(study_name="s", storage=open_storage(url))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE looker LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker")
    reader = url.replace("postgres@", "looker@")
    study = optuna.load_study(study_name="s", storage=open_storage(reader, must_exist=True))
    with pytest.raises(StorageError, match="permission denied"):
        study.set_user_attr("a", 1)


def test_default_is_a_file_in_the_storage_folder_or_named_by_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    assert default_url() == "sqlite:///storage/optuna.db"
    assert list(tmp_path.iterdir()) == []
    open_storage()
    assert (tmp_path / "storage" / "optuna.db").exists()
    monkeypatch.setenv("OPTUNA_STORAGE", str(tmp_path / "mine.db"))
    open_storage()
    assert (tmp_path / "mine.db").exists()


def test_heartbeat_comes_from_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPWEEDS_HEARTBEAT_SECONDS", "0.5")
    monkeypatch.setenv("DEEPWEEDS_GRACE_SECONDS", "3")
    storage = open_storage(str(tmp_path / "a.db"))
    assert (storage.beat_seconds, storage.grace_seconds) == (0.5, 3.0)
    monkeypatch.setenv("DEEPWEEDS_GRACE_SECONDS", "soon")
    with pytest.raises(InvalidInputError, match="'soon'"):
        open_storage(str(tmp_path / "a.db"))


@pytest.mark.parametrize(
    "url",
    [
        "studies",  # Neither a URL nor a database file.
        "oracle://host/db",
        "mysql://me:secret@host/db",
        "postgresql://user:secret@host:port/db",
        "http://user:secret@host/db",
        "postgresql://me:p@secret@host/db",  # An @ to be written %40.
        "sqlite:///a.db?mode=ro&uri=true",  # Would make a file "a.db?mode=ro".
        "sqlite:///a.db?mod=ro",
        "\udcff.db",
        "://",
    ],
)
def test_what_is_no_storage_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unusable_files_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_text("This is not a database." * 100)
    (tmp_path / "folder.db").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "foreign.db")) as connection:
        connection.execute("CREATE TABLE bookmarks (a)")
    for name in ("junk.db", "folder.db", "foreign.db", "missing/a.db"):
        with pytest.raises(StorageError) as caught:
            open_storage(str(tmp_path / name))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:secret@127.0.0.1:9/db", "refused"),
        ("postgresql:///x?password=secret&host=127.0.0.1&port=9", ""),
        ("postgresql://me@127.0.0.1:9/x?nonsense=1&password=secret", ""),
    ],
)
def test_unreachable_server_is_told_quickly_and_without_the_password(url: str, said: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StorageError) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.postgres
def test_unknown_database_is_not_waited_for(postgres: LocalPostgres) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        open_storage(postgres.url("nobody"), wait=60)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_postgres_urls_get_an_installed_driver(scheme: str) -> None:
    pytest.importorskip("psycopg")
    if scheme.endswith("2"):
        with pytest.raises(StorageError, match="optuna-deepweeds.postgres"):
            resolve_url(f"{scheme}://u@h/db")
    else:
        assert resolve_url(f"{scheme}://u@h/db").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:se@cr:et@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg://me:pw@h:3306/d?x=1", "postgresql+psycopg://me:***@h:3306/d?x=1"),
        ("postgresql://h/db?user=me&password=pw", "postgresql://h/db?user=me&password=***"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
    ],
)
def test_passwords_are_hidden(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_a_deleted_study_leaves_no_row_and_others_all(storage_url: str) -> None:
    storage = open_storage(storage_url)
    gone, other = (optuna.create_study(storage=storage) for _ in range(2))
    for study in (gone, other):
        study.set_user_attr("a", 1)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
        trial = study.ask()
        trial.report(0.5, 1)
        trial.set_user_attr("b", 2)
    before = other.trials
    optuna.delete_study(study_name=gone.study_name, storage=storage)
    assert optuna.load_study(study_name=other.study_name, storage=storage).trials == before
    with storage.engine.connect() as connection:
        for table in models.BaseModel.metadata.sorted_tables:
            if {*table.c.keys()} & {"study_id", "trial_id"}:
                key = "study_id" if "study_id" in table.c else "trial_id"
                ids = {row[0] for row in connection.execute(select(table.c[key]))}
                assert len(ids) <= (1 if key == "study_id" else 3), table.name
    with pytest.raises(KeyError):
        optuna.delete_study(study_name=gone.study_name, storage=storage)

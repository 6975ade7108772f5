"""Studies in a storage that many share, on SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from optuna_deepweeds.errors import InvalidInputError, NotFoundError, StorageError
from optuna_deepweeds.studies.storage import default_url, open_storage, redact
from optuna_deepweeds.studies.storage.engine import resolve_url, sqlite_path
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


def test_study_survives_in_the_storage(storage_url: str) -> None:
    study = optuna.create_study(study_name="kept", storage=open_storage(storage_url))
    study.enqueue_trial({"x": 0.25}, user_attrs={"why": "prior"})
    _run_study(storage_url, "kept", 2)

    again = optuna.load_study(study_name="kept", storage=open_storage(storage_url))
    assert [t.state for t in again.trials] == [TrialState.COMPLETE] * 2
    assert again.trials[0].params == {"x": 0.25}
    assert again.trials[0].user_attrs == {"why": "prior"}
    assert again.trials[0].intermediate_values == {1: 0.25}


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


def test_template_trial_is_stored_as_given(storage_url: str) -> None:
    study = optuna.create_study(storage=open_storage(storage_url))
    template = create_trial(
        params={"x": 0.5},
        distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
        value=1.5,
        intermediate_values={1: 1.0, 2: float("nan")},
        user_attrs={"a": 1},
        system_attrs={"b": [2]},
    )
    study.add_trial(template)
    assert study.trials[0].params == template.params
    assert study.trials[0].value == 1.5
    assert study.trials[0].system_attrs == {"b": [2]}


def test_trial_put_back_can_be_claimed_again(storage_url: str) -> None:
    study = optuna.create_study(storage=open_storage(storage_url))
    trial = study.ask()
    study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    assert study.ask().number == trial.number


def test_finished_trial_cannot_be_finished_again(storage_url: str) -> None:
    study = optuna.create_study(storage=open_storage(storage_url))
    trial = study.ask()
    study.tell(trial, 1.0)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1.0])


def test_duplicate_study_is_refused(storage_url: str) -> None:
    storage = open_storage(storage_url)
    optuna.create_study(study_name="once", storage=storage)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(study_name="once", storage=storage)


def test_deleting_an_unknown_study_is_a_key_error(storage_url: str) -> None:
    with pytest.raises(KeyError):
        open_storage(storage_url).delete_study(7)


def test_storage_can_be_sent_to_another_process(storage_url: str) -> None:
    storage = open_storage(storage_url)
    optuna.create_study(study_name="s", storage=storage)
    copy = pickle.loads(pickle.dumps(storage))
    assert copy.get_study_id_from_name("s") == storage.get_study_id_from_name("s")


def test_sqlite_is_set_up_for_many_workers(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "a.db"))
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1


def test_file_made_by_optuna_is_set_up_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    theirs = optuna.storages.RDBStorage(url)
    optuna.create_study(study_name="s", storage=theirs)
    theirs.engine.dispose()
    storage = open_storage(url)
    assert storage.get_study_id_from_name("s") == 1
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_looking_at_a_missing_file_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        open_storage(f"sqlite:///{tmp_path}/none.db", must_exist=True)
    assert list(tmp_path.iterdir()) == []


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


def test_default_is_a_file_in_the_storage_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    assert default_url() == "sqlite:///storage/optuna.db"
    assert list(tmp_path.iterdir()) == []
    open_storage()
    assert (tmp_path / "storage" / "optuna.db").exists()


def test_variable_names_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    junk = tmp_path / "junk.db"
    junk.write_text("This is not a database." * 100)
    folder = tmp_path / "folder.db"
    folder.mkdir()
    foreign = tmp_path / "foreign.db"
    import sqlite3

    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE bookmarks (a)")
    connection.close()
    for path in (junk, folder, foreign, tmp_path / "missing" / "a.db"):
        with pytest.raises(StorageError) as caught:
            open_storage(str(path))
        assert "\n" not in str(caught.value)


def test_unreachable_server_is_told_quickly_and_without_the_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StorageError) as caught:
        open_storage("postgresql://me:secret@127.0.0.1:9/db")
    assert "secret" not in str(caught.value)
    assert "refused" in str(caught.value)


def test_a_password_among_the_options_is_not_printed() -> None:
    pytest.importorskip("psycopg")
    for url in ("postgresql:///x?password=secret&host=127.0.0.1&port=9",
                "postgresql://me@127.0.0.1:9/x?nonsense=1&password=secret"):  # fmt: skip
        with pytest.raises(StorageError) as caught:
            open_storage(url)
        assert "secret" not in str(caught.value)


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
        (
            "postgresql://h/db?user=me&password=pw&x=1",
            "postgresql://h/db?user=me&password=***&x=1",
        ),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
    ],
)
def test_passwords_are_hidden(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///a/b.db", "a/b.db"),
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///file:/a/b.db?mode=ro&uri=true", "/a/b.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
    ],
)
def test_file_behind_a_url(url: str, path: str | None) -> None:
    assert sqlite_path(resolve_url(url)) == (Path(path) if path else None)

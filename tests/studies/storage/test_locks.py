"""Locks between workers: exclusive, released by death, noticed when lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds.errors import StorageError
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.storage.locks import LockLostError, run_locked, study_lock
from tests.postgres import LocalPostgres

_HOLD = """
import sys, time
from optuna_deepweeds.studies.storage.locks import study_lock
from optuna_deepweeds.studies.storage import open_storage
with study_lock(open_storage(sys.argv[1]), 1):
    print("held", flush=True)
    time.sleep(60)
"""


def _kill_connections(url: str) -> None:
    """What a restart of the server does to its clients, without the restart."""
    import psycopg

    database = url.rpartition("/")[2]
    with psycopg.connect(url.replace(database, "postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
        )


def test_one_holder_at_a_time(storage_url: str) -> None:
    storages = [open_storage(storage_url) for _ in range(3)]
    counter = 0

    def work(index: int) -> None:
        nonlocal counter
        for _ in range(5):
            with study_lock(storages[index], 1):
                seen = counter
                time.sleep(0.002)
                counter = seen + 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter == 15


def test_studies_do_not_wait_for_each_other(storage_url: str) -> None:
    one, other = open_storage(storage_url), open_storage(storage_url)
    with study_lock(one, 1), study_lock(other, 2, timeout=1):
        pass


def test_lock_can_be_taken_again_within_a_thread(storage_url: str) -> None:
    storage = open_storage(storage_url)
    study = optuna.create_study(storage=storage)
    with study_lock(storage, 1), study_lock(study._storage, 1, timeout=1):
        pass
    with study_lock(open_storage(storage_url), 1, timeout=1):
        pass


def test_waiting_ends(storage_url: str) -> None:
    one, other = open_storage(storage_url), open_storage(storage_url)
    with study_lock(one, 1), pytest.raises(StorageError, match="study-1"):
        with study_lock(other, 1, timeout=0.05):
            pass


def test_exception_releases_the_lock(storage_url: str) -> None:
    storage = open_storage(storage_url)
    with pytest.raises(RuntimeError), study_lock(storage, 1):
        raise RuntimeError
    with study_lock(open_storage(storage_url), 1, timeout=1):
        pass


@pytest.mark.parametrize("kind", ["optuna", "ours"])
def test_in_memory_storages_have_a_lock(kind: str) -> None:
    storage = optuna.storages.InMemoryStorage() if kind == "optuna" else open_storage("sqlite://")
    held = threading.Event()
    entered: list[bool] = []

    def work() -> None:
        with study_lock(storage, 1):
            entered.append(held.is_set())

    with study_lock(storage, 1):
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.05)
        held.set()
    thread.join()
    assert entered == [True]


def test_killed_holder_releases_the_lock(storage_url: str) -> None:
    storage = open_storage(storage_url)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, storage_url], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StorageError), study_lock(storage, 1, timeout=0.05):
        pass
    holder.kill()
    holder.communicate()
    with study_lock(storage, 1, timeout=20):
        pass


@pytest.mark.postgres
def test_decision_is_taken_anew_after_a_lost_lock(postgres: LocalPostgres) -> None:
    url = postgres.new_database()
    study = optuna.create_study(storage=open_storage(url))
    n_attempts = 0

    def decide() -> int:
        nonlocal n_attempts
        n_attempts += 1
        number = len(study.get_trials(deepcopy=False))
        if n_attempts == 1:
            _kill_connections(url)
        study.ask()
        return number

    assert run_locked(study._storage, study._study_id, decide) == 0
    assert n_attempts == 2
    assert len(study.trials) == 1


@pytest.mark.postgres
def test_lost_lock_is_told_to_who_holds_it(postgres: LocalPostgres) -> None:
    url = postgres.new_database()
    study = optuna.create_study(storage=open_storage(url))
    with pytest.raises(LockLostError), study_lock(study._storage, study._study_id):
        _kill_connections(url)
        study.ask()
    assert study.trials == []
    with study_lock(open_storage(url), study._study_id, timeout=1):
        pass


def test_lock_files_lie_beside_the_database(tmp_path: Path) -> None:
    with study_lock(open_storage(str(tmp_path / "a.db")), 3):
        names = sorted(path.name for path in (tmp_path / "a.db.locks").iterdir())
    assert names == ["schema.lock", "study-3.lock"]

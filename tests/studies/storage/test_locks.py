"""Locks between workers: exclusive, released by death, noticed when lost."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage

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


def _count_to_15(storages: Sequence[BaseStorage]) -> int:
    """Three threads add to one counter, each step a race but for the lock."""
    counter = 0

    def work(storage: BaseStorage) -> None:
        nonlocal counter
        for _ in range(5):
            with study_lock(storage, 1):
                seen = counter
                time.sleep(0.002)
                counter = seen + 1

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, storages))
    return counter


def test_one_holder_at_a_time(storage_url: str) -> None:
    assert _count_to_15([open_storage(storage_url) for _ in range(3)]) == 15


@pytest.mark.parametrize("kind", ["optuna", "ours"])
def test_in_memory_storages_have_a_lock(kind: str) -> None:
    storage = optuna.storages.InMemoryStorage() if kind == "optuna" else open_storage("sqlite://")
    assert _count_to_15([storage] * 3) == 15


def test_waiting_for_a_lock_ends_and_other_studies_do_not_wait(storage_url: str) -> None:
    one, other = open_storage(storage_url), open_storage(storage_url)
    with study_lock(one, 1), study_lock(other, 2, timeout=1):
        with pytest.raises(StorageError, match="study-1"), study_lock(other, 1, timeout=0.05):
            pass


def test_leaving_releases_a_lock_that_was_taken_twice(storage_url: str) -> None:
    storage = open_storage(storage_url)
    study = optuna.create_study(storage=storage)
    with pytest.raises(RuntimeError), study_lock(storage, 1):
        with study_lock(study._storage, 1, timeout=1):
            pass
        raise RuntimeError
    with study_lock(open_storage(storage_url), 1, timeout=1):
        pass


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
    n_seen: list[int] = []

    def decide() -> None:
        n_seen.append(len(study.get_trials(deepcopy=False)))
        if len(n_seen) == 1:
            _kill_connections(url)
        study.ask()

    run_locked(study._storage, study._study_id, decide)
    assert n_seen == [0, 0]
    assert len(study.trials) == 1
    with pytest.raises(LockLostError), study_lock(study._storage, study._study_id):
        _kill_connections(url)
        study.ask()
    assert len(study.trials) == 1
    with study_lock(open_storage(url), study._study_id, timeout=1):
        pass


def test_lock_files_lie_beside_the_database(tmp_path: Path) -> None:
    with study_lock(open_storage(str(tmp_path / "a.db")), 3):
        names = sorted(path.name for path in (tmp_path / "a.db.locks").iterdir())
    assert names == ["schema.lock", "study-3.lock"]

"""What clusters do to a study: many workers, kills, restarts, locks; nothing is lost or run twice.

Every test runs the real worker loop in several processes on a real storage.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optuna_deepweeds.errors import StorageError
from optuna_deepweeds.studies.storage import open_storage
from tests.faults.processes import LONGEST_SECONDS, enlarge, finish, start
from tests.faults.proxy import proxy
from tests.faults.studies import BenchStudy, check_study, create_and_work, read_log, work
from tests.postgres import LocalPostgres

pytestmark = pytest.mark.slow

_DISTURBED: dict[str, Any] = {"n_enqueued": 20, "epochs": 12, "checkpoint_seconds": 0.1}


@pytest.mark.parametrize("workers", [4, 8])
def test_a_shared_queue_is_run_once(storage_url: str, tmp_path: Path, workers: int) -> None:
    bench = BenchStudy(storage_url, tmp_path, n_enqueued=20)
    bench.create()
    finish([start(work, bench) for _ in range(workers)])
    assert check_study(bench, n_trials=60).problems == []


def test_many_processes_begin_one_study_at_once(storage_url: str, tmp_path: Path) -> None:
    bench = BenchStudy(storage_url, tmp_path, n_trials=8)
    at = time.time() + 0.5
    finish([start(create_and_work, bench, at) for _ in range(8)])
    assert check_study(bench, n_trials=8).problems == []


@pytest.mark.parametrize("pruner", ["asha", "dora"])
def test_killed_workers_lose_nothing_and_nothing_is_trained_twice(
    storage_url: str, tmp_path: Path, pruner: str
) -> None:
    bench = BenchStudy(
        storage_url, tmp_path, pruner=pruner, epoch_seconds=0.03, grace_seconds=15, **_DISTURBED
    )
    _kill_workers(bench, n_kills=100)


def test_killed_workers_with_networks_lose_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    bench = BenchStudy(url, tmp_path, epoch_seconds=None, grace_seconds=15, **_DISTURBED)
    _kill_workers(bench, n_kills=20)


def _kill_workers(bench: BenchStudy, *, n_kills: int, n_workers: int = 4) -> None:
    """Kill workers at random moments of their work and start others in their place."""
    generator, study, n_trials = random.Random(0), bench.create(), bench.n_trials
    running = [start(work, bench) for _ in range(n_workers)]
    n_killed, n_lines, deadline = 0, 0, time.monotonic() + LONGEST_SECONDS
    while n_killed < n_kills and time.monotonic() < deadline:
        n_lines += generator.randrange(10)  # So much is done between two, on any machine.
        while len(read_log(bench)) < n_lines and any(process.is_alive() for process in running):
            assert time.monotonic() < deadline, "the workers do nothing"
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.1))
        n_lines = len(read_log(bench))
        victim = generator.randrange(n_workers)
        if running[victim].is_alive():
            os.kill(running[victim].pid or 0, signal.SIGKILL)
            running[victim].join()
            n_killed += 1
        else:
            assert running[victim].exitcode == 0
        if all(process.exitcode == 0 for process in running):
            # The study ended before all kills were dealt: go on with a larger one.
            n_trials += 20
            enlarge(study, n_trials)
        running[victim] = start(work, bench)
    finish(running)
    assert (n_killed, check_study(bench, n_trials=n_trials).problems) == (n_kills, [])


def test_no_worker_dies_of_a_server_that_restarts(postgres: LocalPostgres, tmp_path: Path) -> None:
    def restart() -> None:
        postgres.stop()
        time.sleep(1)
        postgres.start()

    _sit_out(postgres.new_database(), tmp_path, restart)


def test_no_worker_dies_of_a_network_that_swallows_everything_for_a_minute(
    postgres: LocalPostgres, tmp_path: Path
) -> None:
    with proxy(postgres.port) as door:
        url = postgres.new_database().replace(f":{postgres.port}/", f":{door.port}/")
        bench = BenchStudy(
            url, tmp_path, n_trials=40, epochs=12, epoch_seconds=0.5, grace_seconds=90
        )
        bench.create()
        running = [start(work, bench) for _ in range(4)]
        time.sleep(10)
        door.is_open.clear()
        time.sleep(60)
        door.is_open.set()
        finish(running)
        findings = check_study(bench, n_trials=40)
    assert (findings.problems, findings.again) == ([], 0)


def test_a_server_without_a_free_connection_keeps_those_that_work(
    postgres: LocalPostgres, tmp_path: Path
) -> None:
    psycopg = pytest.importorskip("psycopg")
    url = postgres.new_database()
    bench = BenchStudy(url, tmp_path, n_trials=40, epochs=12, epoch_seconds=0.3)
    study = bench.create()
    running = [start(work, bench) for _ in range(3)]
    while sum(bool(t.intermediate_values) for t in study.get_trials(deepcopy=False)) < 3:
        time.sleep(0.1)
    with contextlib.ExitStack() as others:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                others.enter_context(contextlib.closing(psycopg.connect(url)))
        with pytest.raises(StorageError, match="too many clients|connection slots"):
            open_storage(url)
        late = start(work, bench)  # It asks for a minute.
        time.sleep(5)
    finish([*running, late])
    findings = check_study(bench, n_trials=40)
    assert (findings.problems, findings.again) == ([], 0)


def test_no_worker_dies_of_a_file_that_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"

    def lock() -> None:
        connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(10)
        connection.execute("ROLLBACK")
        connection.close()

    _sit_out(f"sqlite:///{path}", tmp_path, lock)


def _sit_out(url: str, folder: Path, disturb: Callable[[], None]) -> None:
    """Disturb the storage five times while four workers use it."""
    bench = BenchStudy(url, folder, epoch_seconds=0.5, grace_seconds=60, **_DISTURBED)
    study, n_trials = bench.create(), bench.n_trials
    running = [start(work, bench) for _ in range(4)]
    for _ in range(5):
        time.sleep(3)
        if any(process.exitcode is not None for process in running):
            finish(running)
            n_trials += 30
            enlarge(study, n_trials)
            running = [start(work, bench) for _ in range(4)]
            time.sleep(1)
        disturb()
    finish(running)
    findings = check_study(bench, n_trials=n_trials)
    # Nobody died, so nothing may have been trained again.
    assert (findings.problems, findings.again) == ([], 0)

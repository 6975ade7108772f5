"""Whether studies survive what clusters do to them, and what the manager costs.

Each case runs the real worker loop in several processes against real storages and returns one
row; `problems` is empty where nothing was lost, run twice or left hanging. The networks are left
out unless asked for, so that many repetitions cost little.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from optuna_deepweeds import attributes
from optuna_deepweeds.bench.postgres import LocalPostgres
from optuna_deepweeds.bench.storage_worker import (
    BenchStudy,
    check_study,
    create_and_work,
    random_pause,
    work,
)
from optuna_deepweeds.errors import DeepWeedsError

_LONGEST_SECONDS = 1800.0


@dataclass
class Outcome:
    """One repetition of one case.

    Attributes:
        case: What was done.
        backend: "sqlite" or "postgresql".
        workers: Processes at a time.
        events: Kills, restarts or locks that the study went through.
        again: Epochs that were trained again because their worker was killed before it saved.
        seconds: Wall time.
        problems: What went wrong.
    """

    case: str
    backend: str
    workers: int
    events: int = 0
    again: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Places:
    """Hands out empty storages of one kind.

    Args:
        backend: "sqlite" or "postgresql".
        server: Where the databases are made; None for files.
        with_networks: Train networks; otherwise an epoch takes its time and learns nothing.
    """

    def __init__(
        self, backend: str, server: LocalPostgres | None, *, with_networks: bool = False
    ) -> None:
        self.backend = backend
        self.server = server
        self._with_networks = with_networks

    @contextmanager
    def new(self, **options: Any) -> Iterator[BenchStudy]:
        """A bench study on an empty storage with a folder of its own."""
        folder = Path(tempfile.mkdtemp(prefix="deepweeds-bench-"))
        try:
            if self.server is not None:
                url = self.server.new_database()
            else:
                url = f"sqlite:///{folder}/optuna.db"
            if self._with_networks:
                options["epoch_seconds"] = None
            yield BenchStudy(url, folder, **options)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def claims(places: Places, *, workers: int, n_trials: int = 60, n_enqueued: int = 20) -> Outcome:
    """Many workers share a queue: each trial is run once, and the total is met exactly."""
    outcome = Outcome("claims", places.backend, workers)
    with places.new(n_trials=n_trials, n_enqueued=n_enqueued) as bench, _timed(outcome):
        bench.create()
        _finish([_start(work, bench) for _ in range(workers)], outcome)
        _check(bench, n_trials, outcome)
    return outcome


def kills(
    places: Places,
    *,
    workers: int,
    n_kills: int = 100,
    seed: int = 0,
    mean_seconds: float = 0.5,
    n_trials: int = 60,
) -> Outcome:
    """Workers are killed at random moments; others start in their place.

    With an odd seed the study pauses trials and continues them.
    """
    outcome = Outcome("kills", places.backend, workers)
    generator = random.Random(seed)
    with (
        places.new(
            n_trials=n_trials,
            n_enqueued=n_trials // 3,
            epochs=12,
            pruner="dora" if seed % 2 else "asha",
            epoch_seconds=0.03,
            checkpoint_seconds=0.1,
            grace_seconds=15.0,
        ) as bench,
        _timed(outcome),
    ):
        study = bench.create()
        running = [_start(work, bench) for _ in range(workers)]
        deadline = time.monotonic() + _LONGEST_SECONDS
        while outcome.events < n_kills and time.monotonic() < deadline:
            time.sleep(random_pause(generator, mean_seconds))
            victim = generator.randrange(workers)
            if running[victim].is_alive():
                os.kill(running[victim].pid or 0, signal.SIGKILL)
                running[victim].join()
                outcome.events += 1
            elif running[victim].exitcode != 0:
                outcome.problems.append(f"a worker ended with {running[victim].exitcode}")
            if all(process.exitcode == 0 for process in running):
                # The study ended before all kills were dealt: go on with a larger one.
                n_trials += 20
                study.set_user_attr(attributes.BUDGET, {"trials": n_trials})
            running[victim] = _start(work, bench)
        _finish(running, outcome)
        _check(bench, n_trials, outcome)
    return outcome


def outages(
    places: Places,
    *,
    workers: int,
    n_outages: int = 5,
    seconds: float = 10.0,
    n_trials: int = 60,
) -> Outcome:
    """The server restarts, or another program locks the SQLite file, during a study."""
    outcome = Outcome("outages", places.backend, workers)
    with (
        places.new(
            n_trials=n_trials,
            n_enqueued=n_trials // 3,
            epochs=12,
            epoch_seconds=0.5,
            checkpoint_seconds=0.1,
            grace_seconds=60.0,
        ) as bench,
        _timed(outcome),
    ):
        study = bench.create()
        running = [_start(work, bench) for _ in range(workers)]
        for _ in range(n_outages):
            time.sleep(3)
            if any(process.exitcode is not None for process in running):
                _finish(running, outcome)
                n_trials += 30
                study.set_user_attr(attributes.BUDGET, {"trials": n_trials})
                running = [_start(work, bench) for _ in range(workers)]
                time.sleep(1)
            if places.server is not None:
                places.server.stop()
                time.sleep(1)
                places.server.start()
            else:
                _lock_file(bench.folder / "optuna.db", seconds)
            outcome.events += 1
        _finish(running, outcome)
        _check(bench, n_trials, outcome)
        if outcome.again:
            outcome.problems.append(f"{outcome.again} epochs trained again though nobody died")
    return outcome


def starts(places: Places, *, workers: int = 8) -> Outcome:
    """Many processes begin the same study on an empty storage at the same moment."""
    outcome = Outcome("starts", places.backend, workers)
    with places.new(n_trials=workers) as bench, _timed(outcome):
        at = time.time() + 0.5
        _finish([_start(create_and_work, bench, at) for _ in range(workers)], outcome)
        _check(bench, workers, outcome)
    return outcome


CASES: dict[str, str] = {
    "claims": "60 trials, 20 of them enqueued: each run once, exactly 60 finished",
    "kills": "workers killed at random moments: nothing lost, nothing trained twice",
    "outages": "server restarted, or file locked for 10 s, five times: no worker dies",
    "starts": "all workers begin one study on an empty storage at once",
    "overhead": "time of a trial and an epoch report beside stock Optuna",
    "scale": "import, counts and listing with 10,000 trials",
}


def _start(target: Callable[..., None], bench: BenchStudy, *arguments: Any) -> BaseProcess:
    # Imports once; a forked worker starts in milliseconds, so that kills hit work.
    context = multiprocessing.get_context("forkserver")
    preload = [work.__module__, "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql"]
    if bench.url.startswith("postgresql"):
        preload.append("psycopg")
    if bench.epoch_seconds is None:
        # (torch._dynamo takes seconds and is imported by every optimiser.)
        preload += ["optuna_deepweeds.training", "torch", "torch._dynamo"]
    context.set_forkserver_preload(preload)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    process = context.Process(target=target, args=(bench, *arguments), daemon=True)
    process.start()
    return process


def _finish(processes: Sequence[BaseProcess], outcome: Outcome) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            outcome.problems.append("a worker did not end")
        elif process.exitcode != 0:
            outcome.problems.append(f"a worker ended with {process.exitcode}")


def _check(bench: BenchStudy, n_trials: int, outcome: Outcome) -> None:
    findings = check_study(bench, n_trials=n_trials)
    outcome.problems += findings.problems
    outcome.again += findings.again


@contextmanager
def _timed(outcome: Outcome) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    except DeepWeedsError as error:
        outcome.problems.append(str(error))
    outcome.seconds = time.monotonic() - started


def _lock_file(path: Path, seconds: float) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(seconds)
    connection.execute("ROLLBACK")
    connection.close()


__all__ = ["CASES", "Outcome", "Places", "claims", "kills", "outages", "starts"]

"""What the study manager costs beside stock Optuna, and what looking at a big study takes.

Both sides of the overhead run in one process, in turns, on one kind of storage, so that a noisy
machine slows them alike; the figures are medians. Commands are timed as a user feels them, from
the start of the process to its end, on a study that has what a real one has: parameters of the
course space, full curves, and the attributes that workers and pruner write.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from optuna_deepweeds import attributes
from optuna_deepweeds.bench.problems import random_params
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies import manager, worker
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.storage.bulk import bulk_add_trials
from optuna_deepweeds.studies.storage.engine import STORAGE_VARIABLE, resolve_url
from optuna_deepweeds.tasks import FunctionTask, Run

BIG = "big"
"""Name of the study whose commands are timed."""

_TRIALS_A_ROUND = 15
_N_ROUNDS = 6
_REPORTS = 20
_EPOCHS = 20
_SECONDS_A_COMMAND = 5.0
_COMMANDS = (
    "--version",
    "study list",
    f"study status {BIG}",
    f"study best {BIG}",
    f"study trials {BIG}",
    f"study compare {BIG}",
    f"study report {BIG} --output report.html",
    "priors list",
    f"study stop {BIG}",
)
_START = datetime(2026, 1, 1)


def measure(url: str | None, *, n_trials: int) -> list[dict[str, Any]]:
    """Overhead of a trial and of a report, and whole commands with a study of `n_trials`.

    A record has `what` and its `seconds`; where stock Optuna has something to compare, its
    `stock_seconds` and the `difference_ms`.

    Args:
        url: An empty database; None for SQLite files that are removed afterwards.
        n_trials: Trials of the big study; 0 leaves the commands out.

    Raises:
        InvalidInputError: The database holds studies.
    """
    with tempfile.TemporaryDirectory(prefix="bench-storage-") as scratch:
        ours = url or f"sqlite:///{scratch}/ours.db"
        storage = open_storage(ours)
        if storage.get_all_studies():
            raise InvalidInputError("the database must be empty, but it holds studies.")
        speeds = overhead(storage, url or f"sqlite:///{scratch}/stock.db", Path(scratch))
        if n_trials:
            make_big_study(storage, n_trials)
            timed = commands(ours, Path(scratch))
            speeds += [{"what": what, "seconds": seconds} for what, seconds in timed.items()]
    return speeds


def overhead(storage: RDBStorage, stock_url: str, folder: Path) -> list[dict[str, Any]]:
    """Median time of a trial without its reports, and of a report: ours and stock Optuna's.

    Ours is the real worker loop (locks, heartbeat, attributes, checkpoint files below `folder`)
    around a training that takes no time; stock Optuna's is `optimize` on its own storage with the
    same parameters, reports and pruning decisions, and with the same settings of SQLite. Trials
    have 1 or 20 reports; the difference tells the report from the trial.
    """
    os.environ["DEEPWEEDS_CHECKPOINTS"] = str(folder / "checkpoints")
    sides = (partial(_our_round, storage), partial(_stock_round, _stock_storage(stock_url)))
    rounds = {(side, n): make(n) for n in (1, _REPORTS) for side, make in enumerate(sides)}
    seconds: dict[tuple[int, int], list[float]] = {key: [] for key in rounds}
    for _ in range(1 + _N_ROUNDS):
        for key, run in rounds.items():
            seconds[key].append(seconds_of(run) / _TRIALS_A_ROUND)
    # (2,), ours and stock Optuna's; the first round warms up.
    few, many = (
        np.array([median(seconds[side, n][1:]) for side in range(2)]) for n in (1, _REPORTS)
    )
    report = (many - few) / (_REPORTS - 1)
    return [
        {
            "what": what,
            "seconds": float(ours),
            "stock_seconds": float(stock),
            "difference_ms": 1000 * float(ours - stock),
        }
        for what, (ours, stock) in (("trial", few - report), ("report", report))
    ]


def no_training(trial: optuna.Trial, run: Run) -> float:
    """An objective that reports every epoch at once and saves an empty file."""

    def save(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    for epoch in range(1, run.epochs + 1):
        run.report(0.5, epoch, save=save)
    return 0.5


def run_worker(
    study: optuna.Study, objective: Callable[[optuna.Trial, Run], float], **options: Any
) -> None:
    """Work on a study in this process until its total is reached."""
    observer = SimpleNamespace(
        trial_started=lambda *_: None, epoch_finished=lambda *_: None, trial_ended=lambda *_: None
    )
    task = FunctionTask(objective, space=manager.study_spec(study).search_space)
    worker.Worker(study, task, observer=observer, device="cpu", **options).run()


def _our_round(storage: RDBStorage, n_reports: int) -> Callable[[], object]:
    """Runs some more trials of a study by our worker."""
    spec = StudySpec(
        dataset="demo", space="course-small", sampler="random", pruner="none", epochs=n_reports
    )
    name = f"ours-{n_reports}"
    study, _ = manager.create_or_continue(name, spec, Budget(trials=1), storage)

    def run() -> None:
        done = manager.study_budget(study).trials or 0
        manager.set_budget(study, Budget(trials=done + _TRIALS_A_ROUND))
        run_worker(study, no_training)

    run_worker(study, no_training)
    return run


def _stock_round(storage: RDBStorage, n_reports: int) -> Callable[[], object]:
    """Runs some more trials of a study by stock Optuna."""
    space = SPACES["course-small"]

    def objective(trial: optuna.Trial) -> float:
        space.suggest(trial)
        for step in range(1, n_reports + 1):
            trial.report(0.5, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return 0.5

    study = optuna.create_study(
        study_name=f"stock-{n_reports}",
        storage=storage,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
        direction="maximize",
    )
    study.optimize(objective, n_trials=1)
    return lambda: study.optimize(objective, n_trials=_TRIALS_A_ROUND)


def _stock_storage(url: str) -> RDBStorage:
    resolved = resolve_url(url)
    storage = RDBStorage(resolved.render_as_string(hide_password=False))
    if resolved.get_backend_name() == "sqlite":
        event.listen(storage.engine, "connect", _set_up_sqlite)
        storage.engine.dispose()
    return storage


def _set_up_sqlite(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def make_big_study(storage: RDBStorage, n_trials: int) -> optuna.Study:
    """A study with `n_trials` finished trials as workers and pruner leave them."""
    spec = StudySpec(dataset="demo", sampler="random", pruner="asha")
    study, _ = manager.create_or_continue(BIG, spec, Budget(trials=n_trials), storage)
    generator = np.random.default_rng(0)
    bulk_add_trials(study, [_finished(i, generator) for i in range(n_trials)])
    return study


def _finished(i: int, generator: np.random.Generator) -> FrozenTrial:
    space = SPACES["course"]
    params = random_params(space, generator)
    value = float(generator.uniform())
    trial = create_trial(
        state=TrialState.COMPLETE,
        value=value,
        params=params,
        distributions={name: space[name].distribution for name in params},
        user_attrs={
            attributes.WORKER: "host/1234/5678/space",
            attributes.SEED: i,
            attributes.CHECKPOINT: _EPOCHS,
            attributes.TRAIN_SECONDS: 12.345,
            attributes.ANTICIPATION: {
                "epoch": 10,
                "expected": value,
                "low": value - 0.1,
                "high": value + 0.1,
                "incumbent": 0.5,
                "decision": "continue",
                "reason": "may still become the best",
            },
        },
        intermediate_values={epoch: value * epoch / _EPOCHS for epoch in range(1, _EPOCHS + 1)},
    )
    trial.datetime_start = _START + timedelta(seconds=5 * i)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=12)
    return trial


def commands(url: str, folder: Path) -> dict[str, float]:
    """Median wall time of the commands that look at studies (up to three runs of each)."""
    environment = {**os.environ, STORAGE_VARIABLE: url}
    speeds = {}
    for words in _COMMANDS:
        arguments = [str(folder / w) if w.endswith(".html") else w for w in words.split()]
        line = [sys.executable, "-m", "optuna_deepweeds", *arguments]
        run = partial(subprocess.run, line, env=environment, check=True, capture_output=True)
        seconds = [seconds_of(run)]
        while len(seconds) < 3 and sum(seconds) < _SECONDS_A_COMMAND:
            seconds.append(seconds_of(run))
        speeds[words.partition(f" {BIG}")[0]] = median(seconds)
    return speeds


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

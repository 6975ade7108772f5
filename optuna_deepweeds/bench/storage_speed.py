"""What the manager costs beside stock Optuna.

Both sides run in one process, in turns, on storages of one kind, so that a noisy machine slows
them alike; the figures are medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import optuna
from sqlalchemy import event

from optuna_deepweeds.bench.storage_training import QuickTraining
from optuna_deepweeds.bench.storage_worker import BenchStudy, run_worker
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.spec import Budget
from optuna_deepweeds.studies.storage.engine import resolve_url

_TRIALS_A_ROUND = 15
_REPORTS = 20


@dataclass(frozen=True)
class Speed:
    """One measured duration.

    Attributes:
        what: What was timed.
        seconds: By our storage.
        stock_seconds: By stock Optuna in the same run; None where it has nothing to compare.
    """

    what: str
    seconds: float
    stock_seconds: float | None = None


def overhead(ours: BenchStudy, stock_url: str, *, n_rounds: int = 6) -> list[Speed]:
    """Median time of a trial without its reports, and of a report: ours and stock Optuna's.

    Ours is the real worker loop (locks, heartbeat, attributes, checkpoint files) around a
    training that takes no time; stock Optuna's is `optimize` on its own storage with the same
    parameters, reports and pruning decisions, and with the same settings of SQLite. Both run in
    turns, in trials of 1 and of 20 reports; the difference tells the report from the trial.
    """
    storage = _stock_storage(stock_url)
    sides: list[dict[int, Callable[[], object]]] = [{}, {}]
    for n_reports in (1, _REPORTS):
        name = f"reports-{n_reports}"
        sides[0][n_reports] = _our_round(
            replace(ours, name=name, pruner="none", epochs=n_reports, n_trials=1)
        )
        sides[1][n_reports] = _stock_round(storage, name, n_reports)
    seconds: list[dict[int, list[float]]] = [{1: [], _REPORTS: []} for _ in sides]
    for _ in range(1 + n_rounds):
        for side, rounds in enumerate(sides):
            for n_reports, run in rounds.items():
                seconds[side][n_reports].append(seconds_of(run) / _TRIALS_A_ROUND)
    reports, trials = [], []
    for times in seconds:
        # The first round warms up.
        few, many = median(times[1][1:]), median(times[_REPORTS][1:])
        reports.append((many - few) / (_REPORTS - 1))
        trials.append(few - reports[-1])
    return [Speed("trial", *trials), Speed("report", *reports)]


def _our_round(bench: BenchStudy) -> Callable[[], object]:
    """Runs some more trials of a study by our worker."""
    study = bench.create()

    def run() -> None:
        done = manager.study_budget(study).trials or 0
        manager.set_budget(study, Budget(trials=done + _TRIALS_A_ROUND))
        run_worker(study, QuickTraining())

    run_worker(study, QuickTraining())
    return run


def _stock_round(
    storage: optuna.storages.RDBStorage, name: str, n_reports: int
) -> Callable[[], object]:
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
        study_name=name,
        storage=storage,
        sampler=_sampler(),
        pruner=optuna.pruners.NopPruner(),
        direction="maximize",
    )
    study.optimize(objective, n_trials=1)
    return lambda: study.optimize(objective, n_trials=_TRIALS_A_ROUND)


def _sampler() -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=0)


def _stock_storage(url: str) -> optuna.storages.RDBStorage:
    resolved = resolve_url(url)
    storage = optuna.storages.RDBStorage(resolved.render_as_string(hide_password=False))
    if resolved.get_backend_name() == "sqlite":
        event.listen(storage.engine, "connect", _set_up_sqlite)
        storage.engine.dispose()
    return storage


def _set_up_sqlite(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

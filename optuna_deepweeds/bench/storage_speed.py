"""What the manager costs beside stock Optuna, and how storages of 10,000 trials behave.

Both sides run in one process, in turns, on storages of one kind, so that a noisy machine slows
them alike; the figures are medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from optuna_deepweeds import attributes
from optuna_deepweeds.studies.bulk import bulk_add_trials
from optuna_deepweeds.studies.counts import counted_progress, list_studies
from optuna_deepweeds.studies.heartbeat import Heartbeat
from optuna_deepweeds.studies.locks import run_locked
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.storage_url import resolve_url
from optuna_deepweeds.studies.transfer_file import export_study, import_study

_REPORTS = 20
_SPACE = {
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    "layers": IntDistribution(1, 3),
    "width": IntDistribution(16, 512, log=True),
}


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


def overhead(url: str, stock_url: str, *, n_trials: int = 50) -> list[Speed]:
    """Median time of a trial without its reports, and of a report: ours and stock Optuna's.

    Stock Optuna gets the same SQLite settings (WAL, synchronous NORMAL); on PostgreSQL both are
    as they come. Ours counts, asks and suggests under the study's lock, with a heartbeat.
    """
    ours = optuna.create_study(storage=open_storage(url), sampler=_sampler())
    stock = optuna.create_study(storage=_stock_storage(stock_url), sampler=_sampler())
    timed: dict[str, list[list[float]]] = {"trial": [[], []], "report": [[], []]}
    for _ in range(n_trials):
        for side, run in enumerate((lambda: _our_trial(ours), lambda: _stock_trial(stock))):
            trial_seconds, report_seconds = run()
            timed["trial"][side].append(trial_seconds)
            timed["report"][side].append(report_seconds)
    return [Speed(what, median(a), median(b)) for what, (a, b) in timed.items()]


def scale(url: str, other_url: str, folder: Any, *, n_trials: int = 10_000) -> list[Speed]:
    """Times of import, counts, listing, export and import with a big study."""
    storage = open_storage(url)
    study = optuna.create_study(study_name="big", storage=storage)
    priors = [_finished(i, {attributes.PRIOR: "bench"}) for i in range(2000)]
    trials = [_finished(i, {}) for i in range(n_trials - len(priors))]
    small = optuna.create_study(study_name="small", storage=storage)
    file = folder / "big.jsonl.gz"
    other = open_storage(other_url)
    return [
        Speed("import 2,000 priors", _seconds(lambda: bulk_add_trials(study, priors))),
        Speed(f"import {len(trials):,} trials", _seconds(lambda: bulk_add_trials(study, trials))),
        Speed("status", _seconds(lambda: counted_progress(storage, study._study_id))),
        Speed("list", _seconds(lambda: list_studies(storage))),
        Speed(f"export {n_trials:,} trials", _seconds(lambda: export_study(study, file))),
        Speed("import the file", _seconds(lambda: import_study(file, other))),
        Speed("ask beside a big study", _seconds(lambda: _ask(small))),
    ]


def _our_trial(study: optuna.Study) -> tuple[float, float]:
    def claim() -> optuna.Trial:
        study.get_trials(deepcopy=False)
        return _ask(study)

    started = time.perf_counter()
    trial = run_locked(study._storage, study._study_id, claim)
    with Heartbeat(study._storage, trial._trial_id):
        report_seconds = _report(trial)
        study.tell(trial, 0.5)
    return time.perf_counter() - started - report_seconds * _REPORTS, report_seconds


def _stock_trial(study: optuna.Study) -> tuple[float, float]:
    started = time.perf_counter()
    trial = _ask(study)
    report_seconds = _report(trial)
    study.tell(trial, 0.5)
    return time.perf_counter() - started - report_seconds * _REPORTS, report_seconds


def _ask(study: optuna.Study) -> optuna.Trial:
    return study.ask(dict(_SPACE))


def _report(trial: optuna.Trial) -> float:
    """Mean seconds of a report."""
    started = time.perf_counter()
    for step in range(1, _REPORTS + 1):
        trial.report(0.5, step)
    return (time.perf_counter() - started) / _REPORTS


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


def _finished(i: int, user_attrs: dict[str, Any]) -> FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE,
        value=i / 10_000,
        params={"lr": 10 ** -(1 + i % 4), "layers": 1 + i % 3, "width": 16 + i % 100},
        distributions=dict(_SPACE),
        user_attrs=user_attrs,
        intermediate_values={step: step / _REPORTS for step in range(1, _REPORTS + 1)},
    )


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

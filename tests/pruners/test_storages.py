"""DORA decides alike in every kind of storage, and for workers that take turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import Trial, TrialState

from optuna_deepweeds.attributes import ANTICIPATION, ORIGIN, RUNG
from optuna_deepweeds.pruners import DoraPruner
from optuna_deepweeds.studies.resume import continue_trial
from optuna_deepweeds.studies.storage import open_storage
from tests.postgres import LocalPostgres
from tests.pruners.contract import MAX_RESOURCE, random_curves

Open = Callable[[Path], BaseStorage]

STORAGES: dict[str, Open] = {
    "plain sqlite": lambda folder: RDBStorage(f"sqlite:///{folder}/plain.db"),
    "our sqlite": lambda folder: open_storage(f"sqlite:///{folder}/ours.db"),
    "journal": lambda folder: JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
}


def create(
    storage: BaseStorage, direction: Literal["maximize", "minimize"], thaw: bool
) -> list[Study]:
    """One study as two workers see it, each with a pruner of its own."""
    study = optuna.create_study(direction=direction, storage=storage)
    return [
        optuna.load_study(
            study_name=study.study_name,
            storage=storage,
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=DoraPruner(max_resource=MAX_RESOURCE, thaw=thaw),
        )
        for _ in range(2)
    ]


def run(workers: list[Study], curves: np.ndarray, n: int) -> list[tuple[Any, ...]]:
    """Run `n` trials, the workers taking turns after every report; return what is stored."""
    idle, started = list(workers), 0
    busy: list[tuple[Study, Trial, int]] = []
    rows: dict[int, int] = {}
    while busy or started < n:
        for study in idle if started < n else []:
            assert isinstance(study.pruner, DoraPruner)
            parent = study.pruner.next_continuation(study)
            if parent is not None:
                continue_trial(study, parent)
            trial = study.ask()
            rows[trial.number] = started if parent is None else rows[parent.number]
            inherited = parent.intermediate_values if parent is not None else {}
            busy.append((study, trial, max(inherited, default=0)))
            started += 1
        study, trial, step = busy.pop(0)
        value = float(curves[rows[trial.number], step])
        trial.report(value, step + 1)
        idle = [study]
        if step + 1 == MAX_RESOURCE:
            study.tell(trial, value)
        elif trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
        else:
            busy.append((study, trial, step + 1))
            idle = []
    return [
        (
            t.state,
            t.intermediate_values,
            t.user_attrs.get(ORIGIN),
            t.user_attrs.get(ANTICIPATION),
            {k: v for k, v in t.system_attrs.items() if k.startswith(RUNG)},
        )
        for t in workers[0].get_trials(deepcopy=False)
    ]


def decisions(
    storage: BaseStorage, thaw: bool, direction: Literal["maximize", "minimize"]
) -> list[tuple[Any, ...]]:
    curves = random_curves(40, seed=5)
    curves[3, 0] = math.nan
    curves[9, 4] = math.inf
    workers = create(storage, direction, thaw)
    stored = run(workers, curves if direction == "maximize" else 1 - curves, 36)
    assert [trial[0] for trial in stored].count(TrialState.COMPLETE) >= 1
    return stored


@pytest.mark.parametrize(("thaw", "direction"), [(False, "maximize"), (True, "minimize")])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_storage_sees_the_same_decisions(
    tmp_path: Path, thaw: bool, direction: Literal["maximize", "minimize"]
) -> None:
    expected = decisions(InMemoryStorage(), thaw, direction)
    for name, open_one in STORAGES.items():
        found = decisions(open_one(tmp_path), thaw, direction)
        assert repr(found) == repr(expected), name  # NaN equals nothing, but reads alike


@pytest.mark.postgres
def test_postgresql_sees_the_same_decisions(postgres: LocalPostgres) -> None:
    expected = decisions(InMemoryStorage(), True, "maximize")
    assert repr(decisions(open_storage(postgres.new_database()), True, "maximize")) == repr(
        expected
    )


def test_a_deleted_study_s_trial_is_not_decided_on(tmp_path: Path) -> None:
    storage = RDBStorage(f"sqlite:///{tmp_path}/study.db")
    pruner = DoraPruner(max_resource=MAX_RESOURCE)
    study = optuna.create_study(storage=storage, study_name="gone", pruner=pruner)
    trial = study.ask()
    trial.report(0.5, 1)
    optuna.delete_study(study_name="gone", storage=storage)
    with pytest.raises(KeyError):
        trial.should_prune()

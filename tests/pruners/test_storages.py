"""DORA decides alike in every kind of storage, and for workers that take turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from optuna_deepweeds.attributes import ANTICIPATION, ORIGIN
from optuna_deepweeds.pruners import DoraPruner
from optuna_deepweeds.studies.storage import open_storage
from tests.postgres import LocalPostgres
from tests.pruners.contract import MAX_RESOURCE, random_curves
from tests.pruners.workers import Workers

STORAGES: dict[str, Callable[[Path], BaseStorage]] = {
    "plain sqlite": lambda folder: RDBStorage(f"sqlite:///{folder}/plain.db"),
    "our sqlite": lambda folder: open_storage(f"sqlite:///{folder}/ours.db"),
    "journal": lambda folder: JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
}


def decisions(
    storage: BaseStorage,
    thaw: bool,
    direction: Literal["maximize", "minimize"],
    *,
    is_fresh: bool = False,
) -> list[tuple[Any, ...]]:
    """What is stored of 36 trials by two workers, each with a pruner of its own."""
    study = optuna.create_study(direction=direction, storage=storage)
    views = [
        optuna.load_study(
            study_name=study.study_name,
            storage=storage,
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=DoraPruner(max_resource=MAX_RESOURCE, thaw=thaw),
        )
        for _ in range(2)
    ]
    curves = random_curves(40, seed=5)
    curves[3, 0] = math.nan
    curves[9, 4] = math.inf
    Workers(curves if direction == "maximize" else 1 - curves, *views, is_fresh=is_fresh).run(36)
    stored = study.get_trials(deepcopy=False)
    assert {t.state for t in stored} == {TrialState.COMPLETE, TrialState.PRUNED}
    return [
        (
            t.state,
            t.intermediate_values,
            t.user_attrs.get(ORIGIN),
            t.user_attrs.get(ANTICIPATION),
        )
        for t in stored
    ]


@pytest.mark.parametrize(("thaw", "direction"), [(False, "maximize"), (True, "minimize")])
def test_every_storage_sees_the_same_decisions(
    tmp_path: Path, thaw: bool, direction: Literal["maximize", "minimize"]
) -> None:
    expected = decisions(InMemoryStorage(), thaw, direction)
    for name, open_one in STORAGES.items():
        found = decisions(open_one(tmp_path), thaw, direction)
        assert repr(found) == repr(expected), name  # NaN equals nothing, but reads alike


@pytest.mark.parametrize("thaw", [False, True])
def test_a_fresh_pruner_for_each_question_decides_alike(thaw: bool) -> None:
    kept, fresh = (
        decisions(InMemoryStorage(), thaw, "maximize", is_fresh=fresh) for fresh in (False, True)
    )
    assert repr(kept) == repr(fresh)


@pytest.mark.postgres
def test_postgresql_sees_the_same_decisions(postgres: LocalPostgres) -> None:
    found = decisions(open_storage(postgres.new_database()), True, "maximize")
    assert repr(found) == repr(decisions(InMemoryStorage(), True, "maximize"))


def test_a_deleted_study_s_trial_is_not_decided_on(tmp_path: Path) -> None:
    storage = RDBStorage(f"sqlite:///{tmp_path}/study.db")
    pruner = DoraPruner(max_resource=MAX_RESOURCE)
    study = optuna.create_study(storage=storage, study_name="gone", pruner=pruner)
    trial = study.ask()
    trial.report(0.5, 1)
    optuna.delete_study(study_name="gone", storage=storage)
    with pytest.raises(KeyError):
        trial.should_prune()

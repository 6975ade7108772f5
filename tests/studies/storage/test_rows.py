"""Trials read by plain statements are those that Optuna reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage, get_storage
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds.studies.storage import ResilientStorage, open_storage
from optuna_deepweeds.studies.storage.bulk import bulk_add_trials
from optuna_deepweeds.studies.storage.rows import read_trials

_DISTRIBUTIONS = {
    "lr": FloatDistribution(1e-6, 1.0, log=True),
    "stepped": FloatDistribution(0.0, 1.0, step=0.1),
    "width": IntDistribution(1, 1024, log=True),
    "depth": IntDistribution(2, 20, step=3),
    "κ 名": CategoricalDistribution([None, True, 1.5, 7, "naïve 🌱", "it's 100%"]),
}


def _values(i: int) -> dict[str, object]:
    choices = _DISTRIBUTIONS["κ 名"].choices  # type: ignore[attr-defined]
    numbers = {"lr": 10.0 ** -(i % 7), "stepped": 0.1 * (i % 11), "width": 2 ** (i % 11)}
    return {**numbers, "depth": 2 + 3 * (i % 7), "κ 名": choices[i % 6]}


def _mixed(directions: int) -> Iterator[FrozenTrial]:
    """Trials in all states, with values, curves and attributes of every kind."""
    odd = [math.inf, -math.inf, 0.0, -1e-300, 1e300]
    for i in range(40):
        state = list(TrialState)[i % len(TrialState)]
        params = _values(i) if i % 4 else {}
        with_value = state == TrialState.COMPLETE or (state == TrialState.PRUNED and i % 3)
        trial = create_trial(
            state=state,
            values=[odd[(i + k) % len(odd)] for k in range(directions)] if with_value else None,
            params=params,
            distributions={name: _DISTRIBUTIONS[name] for name in params},
            user_attrs={"ключ": ["ü", None, {"a": 1.5}], "n": i} if i % 2 else {},
            system_attrs={"it's:rung": i / 3} if i % 3 else {},
            intermediate_values={3 * k: odd[(i + k) % len(odd)] for k in range(i % 6)}
            | ({100: math.nan} if i % 5 == 0 else {}),
        )
        # Across the change to summer time; Optuna keeps local times without their zone.
        trial.datetime_start = datetime(2026, 3, 29, i % 24, i, 7, 123456)
        if state.is_finished():
            trial.datetime_complete = datetime(2026, 10, 25, i % 24, i, 8)
        yield trial


def _shown(trials: list[FrozenTrial]) -> list[str]:
    """All of the trials, as text, in which NaN equals NaN; only parameters have an order."""

    def shown(value: object) -> object:
        return sorted(value.items()) if isinstance(value, dict) else value

    return [
        repr([t._params, t._distributions, sorted((k, shown(v)) for k, v in vars(t).items())])
        for t in trials
    ]


@pytest.fixture
def study(storage_url: str) -> optuna.Study:
    storage = open_storage(storage_url)
    bulk_add_trials(optuna.create_study(storage=storage), list(_mixed(1))[:3])
    study = optuna.create_study(study_name="mixed", storage=storage)
    bulk_add_trials(study, list(_mixed(1)))
    return study


def _backend(study: optuna.Study) -> ResilientStorage:
    backend = study._storage._backend  # type: ignore[attr-defined]
    assert isinstance(backend, ResilientStorage)
    return backend


def test_all_trials_are_read_as_optuna_reads_them(study: optuna.Study) -> None:
    ours = _backend(study)
    theirs = RDBStorage(ours.engine.url.render_as_string(hide_password=False))
    trials = ours.get_all_trials(study._study_id)
    assert len(trials) == 40
    # As text, parameters also show their types.
    assert _shown(trials) == _shown(theirs.get_all_trials(study._study_id))
    assert _shown([ours.get_trial(trial._trial_id) for trial in trials]) == _shown(trials)
    theirs.engine.dispose()


def test_many_objectives_are_read_as_optuna_reads_them(storage_url: str) -> None:
    directions = ["minimize", "maximize", "minimize"]
    study = optuna.create_study(directions=directions, storage=open_storage(storage_url))
    study.add_trials(list(_mixed(3)))
    theirs = RDBStorage._get_trials(_backend(study), study._study_id, None, set(), -1)
    assert _shown(study.trials) == _shown(theirs)


def test_part_of_the_trials_is_read_as_optuna_reads_it(study: optuna.Study) -> None:
    first = study.trials[0]._trial_id
    for states in (None, (), (TrialState.FAIL,), set(TrialState)):
        for known, last in (((), -1), ((4, 7), -1), ((4, 7, 39), 20), ((), 99)):
            ids = {first + i for i in known}
            arguments = (study._study_id, states, ids, first + last if last >= 0 else -1)
            theirs = RDBStorage._get_trials(_backend(study), *arguments)
            assert _shown(_backend(study)._get_trials(*arguments)) == _shown(theirs)


def test_what_is_not_there_is_a_key_error(study: optuna.Study) -> None:
    backend = _backend(study)
    empty = optuna.create_study(storage=backend)
    assert backend._get_trials(empty._study_id, None, set(), -1) == []
    with pytest.raises(KeyError):
        backend._get_trials(empty._study_id + 1, None, set(), -1)
    with pytest.raises(KeyError):
        backend.get_trial(10_000_000)


def test_light_reading_leaves_out_what_it_is_told_to(study: optuna.Study) -> None:
    where = f"study_id = {study._study_id}"
    with _backend(study).engine.connect() as connection:
        light = read_trials(connection, where, params=False, curves=False)
    for light_trial, trial in zip(light, study.trials, strict=True):
        assert light_trial.params == light_trial.distributions == {}
        assert light_trial.intermediate_values == {}
        assert light_trial.user_attrs == trial.user_attrs
        assert light_trial.system_attrs == trial.system_attrs
        assert (light_trial.state, light_trial.values) == (trial.state, trial.values)


def test_changes_of_another_process_are_seen(storage_url: str) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(storage_url))
    looker = optuna.load_study(study_name="s", storage=open_storage(storage_url))
    early, late = study.ask(), study.ask()
    assert [t.state for t in looker.get_trials(deepcopy=False)] == [TrialState.RUNNING] * 2
    late.report(0.5, 1)
    study.tell(late, 1.0)
    early.set_user_attr("note", "x")
    seen = looker.get_trials(deepcopy=False)
    assert [t.state for t in seen] == [TrialState.RUNNING, TrialState.COMPLETE]
    assert seen[0].user_attrs == {"note": "x"} and seen[1].intermediate_values == {1: 0.5}
    study.tell(early, state=TrialState.FAIL)
    assert looker.trials == study.trials


@pytest.mark.slow
def test_ten_thousand_trials_are_read_as_optuna_reads_them(storage_url: str) -> None:
    study = optuna.create_study(storage=open_storage(storage_url))
    some = list(_mixed(1))
    bulk_add_trials(study, [some[i % len(some)] for i in range(10_050)])
    theirs = RDBStorage._get_trials(_backend(study), study._study_id, None, set(), -1)
    assert len(theirs) == 10_050
    assert _shown(study.get_trials(deepcopy=False)) == _shown(theirs)


class TestOptunasContract(StorageTestCase):
    """What Optuna asks of every storage."""

    @pytest.fixture(
        params=[
            "sqlite",
            pytest.param("sqlite without Optuna's cache", marks=pytest.mark.slow),
            pytest.param("postgresql", marks=[pytest.mark.slow, pytest.mark.postgres]),
        ]
    )
    def storage(  # type: ignore[override]
        self, request: pytest.FixtureRequest, tmp_path: Path
    ) -> optuna.storages.BaseStorage:
        if request.param == "postgresql":
            url = request.getfixturevalue("postgres").new_database()
        else:
            url = f"sqlite:///{tmp_path}/a.db"
        storage = open_storage(url)
        return storage if "without" in request.param else get_storage(storage)

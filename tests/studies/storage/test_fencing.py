"""A trial that was given to another worker is closed to the one that had it before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.studies.storage import ResilientStorage, fenced, open_storage
from optuna_deepweeds.studies.storage.heartbeat import Heartbeat

_X = FloatDistribution(0, 1)

WRITES: dict[str, Callable[[ResilientStorage, int], object]] = {
    "report": lambda storage, i: storage.set_trial_intermediate_value(i, 3, 0.3),
    "user attribute": lambda storage, i: storage.set_trial_user_attr(i, "a", 1),
    "system attribute": lambda storage, i: storage.set_trial_system_attr(i, "a", 1),
    "parameter": lambda storage, i: storage.set_trial_param(i, "x", 0.5, _X),
    "end": lambda storage, i: storage.set_trial_state_values(i, TrialState.COMPLETE, [1.0]),
    "putting back": lambda storage, i: storage.set_trial_state_values(i, TrialState.WAITING),
    "beat": lambda storage, i: storage.beat(i),
}


def _study(url: str) -> tuple[ResilientStorage, optuna.Study]:
    storage = open_storage(url, heartbeat_interval=0.05)
    return storage, optuna.create_study(study_name="s", storage=storage, load_if_exists=True)


def _given_away(url: str) -> tuple[ResilientStorage, ResilientStorage, int]:
    """A trial that `old` had, put back and claimed by `new`."""
    (old, study), (new, _) = _study(url), _study(url)
    trial_id = study.ask()._trial_id
    old.set_trial_state_values(trial_id, TrialState.WAITING)
    assert new.set_trial_state_values(trial_id, TrialState.RUNNING)
    return old, new, trial_id


def test_whoever_had_a_trial_before_cannot_write_to_it(storage_url: str) -> None:
    old, new, trial_id = _given_away(storage_url)
    before = new.get_trial(trial_id)
    for write in WRITES.values():
        with pytest.raises(UpdateFinishedTrialError):
            write(old, trial_id)
        assert new.get_trial(trial_id) == before
    for name in ("report", "user attribute", "system attribute", "parameter", "beat", "end"):
        WRITES[name](new, trial_id)
    ended = new.get_trial(trial_id)
    assert (ended.state, ended.intermediate_values, ended.params) == (
        TrialState.COMPLETE, {3: 0.3}, {"x": 0.5},
    )  # fmt: skip


def test_whoever_takes_it_again_can_write_again(storage_url: str) -> None:
    old, new, trial_id = _given_away(storage_url)
    new.set_trial_state_values(trial_id, TrialState.WAITING)
    assert old.set_trial_state_values(trial_id, TrialState.RUNNING)
    WRITES["report"](old, trial_id)
    with pytest.raises(UpdateFinishedTrialError):
        WRITES["report"](new, trial_id)


def test_a_claim_is_later_than_the_one_before_when_the_clock_was_set_back(
    storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, study = _study(storage_url)
    trial_id = study.ask()._trial_id
    starts = [storage.get_trial(trial_id).datetime_start]

    class Late(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(tz) - timedelta(hours=1)  # type: ignore[arg-type]

    monkeypatch.setattr(fenced, "datetime", Late)
    for _ in range(3):
        storage.set_trial_state_values(trial_id, TrialState.WAITING)
        storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        starts.append(storage.get_trial(trial_id).datetime_start)
    assert starts == sorted(set(starts))


def test_a_trial_found_dead_is_ended_for_the_worker_that_had_it_alone(storage_url: str) -> None:
    old, new, trial_id = _given_away(storage_url)
    seen = new.get_trial(trial_id)

    def end(dead: FrozenTrial) -> None:
        noted = {"died": True}
        old.settle(trial_id, TrialState.FAIL, user_attrs=noted, system_attrs=noted, dead=dead)

    new.set_trial_state_values(trial_id, TrialState.WAITING)
    for claimed_again in (False, True):
        if claimed_again:
            new.set_trial_state_values(trial_id, TrialState.RUNNING)
        with pytest.raises(UpdateFinishedTrialError):
            end(seen)
        assert not new.get_trial(trial_id).system_attrs
    end(new.get_trial(trial_id))
    ended = new.get_trial(trial_id)
    assert (ended.state, ended.user_attrs, ended.system_attrs) == (
        TrialState.FAIL, {"died": True}, {"died": True},
    )  # fmt: skip


@pytest.mark.postgres
def test_a_write_that_waits_for_the_row_sees_who_has_it_then(
    postgres: object, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres").new_database()
    old, study = _study(url)
    trial_id = study.ask()._trial_id
    refused = threading.Event()

    def write() -> None:
        with pytest.raises(UpdateFinishedTrialError):
            WRITES["report"](old, trial_id)
        refused.set()

    thread = threading.Thread(target=write)
    with old.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trials SET state = 'FAIL'")
        thread.start()
        time.sleep(0.3)
        assert not refused.is_set()
    thread.join(10)
    assert refused.is_set()
    assert old.get_trial(trial_id).intermediate_values == {}


def test_the_heart_of_a_trial_given_away_stops_and_tells(tmp_path: object) -> None:
    old, new, trial_id = _given_away(f"sqlite:///{tmp_path}/s.db")
    with Heartbeat(old, trial_id) as lost, Heartbeat(new, trial_id) as beating:
        deadline = time.monotonic() + 20
        while not lost.is_lost:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not beating.is_lost

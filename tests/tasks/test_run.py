"""`Run`: what is saved when, and what ends a trial."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.tasks import Allowance, Run
from optuna_deepweeds.tasks import run as runs
from optuna_deepweeds.tasks.run import TrialInterrupted


class Stay:
    """A trial with its run, which notes what it saves."""

    def __init__(self, folder: Path, *, stops_at: int = 0, **options: Any) -> None:
        self.events: list[str] = []
        pruner = _Pruner(stops_at, self.events)
        self.trial = optuna.create_study(direction="maximize", pruner=pruner).ask()
        where = {"checkpoint": folder / "t.pt", "epochs": 4, "config": {}, "seed": 0}
        self.run = Run(self.trial, **where, on_report=self._note, **options)

    def _note(self, step: int, value: float) -> None:
        self.events.append(f"told {step}")

    def train(self, first: int = 1, last: int = 4, *, saves: bool = True) -> None:
        """Report steps `first` to `last`."""
        for step in range(first, last + 1):
            self.run.report(step / 10, step, save=self._saver(step) if saves else None)

    def _saver(self, step: int) -> Callable[[Path], None]:
        def save(path: Path) -> None:
            path.write_text(str(step))
            self.events.append(f"saved {step}")

        return save

    @property
    def curve(self) -> dict[int, float]:
        return self.trial.study.get_trials()[0].intermediate_values


class _Pruner(optuna.pruners.BasePruner):
    def __init__(self, stops_at: int, events: list[str]) -> None:
        self._stops_at, self._events = stops_at, events

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        self._events.append(f"asked {trial.last_step}")
        return trial.last_step == self._stops_at


def test_the_first_step_is_saved_at_once_and_the_last_one_always(tmp_path: Path) -> None:
    stay = Stay(tmp_path)
    stay.train()
    assert [e for e in stay.events if "asked" not in e] == [
        "saved 1", "told 1", "told 2", "told 3", "told 4", "saved 4",
    ]  # fmt: skip
    assert [e for e in stay.events if "asked" in e] == ["asked 1", "asked 2", "asked 3"]
    assert stay.trial.user_attrs[attributes.CHECKPOINT] == 4


def test_where_a_save_is_due_it_comes_before_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", 0.0)
    stay = Stay(tmp_path)
    stay.train(last=2)
    assert stay.events == ["saved 1", "told 1", "asked 1", "saved 2", "told 2", "asked 2"]


def test_steps_that_are_long_beside_a_save_are_all_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_SAVING_SHARE", 1.0)
    stay = Stay(tmp_path)
    for step in (1, 2):
        stay.train(first=step, last=step)
        time.sleep(0.5)
    assert [e for e in stay.events if "saved" in e] == ["saved 1", "saved 2"]


def test_no_step_is_broken_off_while_the_last_one_is_unsaved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_SAVING_SHARE", 1e-9)
    is_asked = False
    stay = Stay(tmp_path, asked_to_stop=lambda: is_asked)
    stay.train(last=2)
    is_asked = True
    assert not stay.run.should_stop()  # Step 2 would be trained again.
    with pytest.raises(TrialInterrupted):
        stay.train(first=3)
    assert stay.run.checkpoint.read_text() == "3"
    assert stay.run.should_stop()


@pytest.mark.parametrize("must_finish", [False, True])
def test_a_stopped_trial_is_saved_first_unless_it_must_finish(
    tmp_path: Path, must_finish: bool
) -> None:
    stay = Stay(tmp_path, stops_at=2, allowance=Allowance(must_finish=must_finish))
    if must_finish:
        stay.train()
    else:
        with pytest.raises(optuna.TrialPruned):
            stay.train()
    assert stay.run.checkpoint.read_text() == ("4" if must_finish else "2")


def test_a_worker_told_to_stop_interrupts_after_saving(tmp_path: Path) -> None:
    stay = Stay(tmp_path, asked_to_stop=lambda: True)
    with pytest.raises(TrialInterrupted):
        stay.train(first=2)
    assert stay.run.checkpoint.read_text() == "2"


def test_an_allowance_of_epochs_ends_exactly_there(tmp_path: Path) -> None:
    stay = Stay(tmp_path, allowance=Allowance(epochs=2))
    with pytest.raises(TrialInterrupted):
        stay.train()
    assert sorted(stay.curve) == [1, 2] and stay.run.checkpoint.read_text() == "2"
    whole = Stay(tmp_path, allowance=Allowance(epochs=4))
    whole.train()  # The last step is the end whatever is left.


def test_an_allowance_of_seconds_ends_within_a_step(tmp_path: Path) -> None:
    stay = Stay(tmp_path, allowance=Allowance(seconds=0.01))
    time.sleep(0.02)
    assert stay.run.should_stop()
    assert not Stay(tmp_path, allowance=Allowance(seconds=60.0)).run.should_stop()


def test_steps_that_a_checkpoint_remembers_count_against_the_allowance(tmp_path: Path) -> None:
    stay = Stay(tmp_path, allowance=Allowance(epochs=3))
    stay.run.catch_up([0.1, 0.2])
    with pytest.raises(TrialInterrupted):
        stay.train(first=3)
    assert sorted(stay.curve) == [1, 2, 3]
    with pytest.raises(TrialInterrupted):
        Stay(tmp_path, allowance=Allowance(epochs=2)).run.catch_up([0.1, 0.2])
    Stay(tmp_path, allowance=Allowance(epochs=2)).run.catch_up([0.1, 0.2, 0.3, 0.4])


def test_a_trial_that_goes_on_reports_and_judges_new_steps_only(tmp_path: Path) -> None:
    stay = Stay(tmp_path)
    stay.train(last=2)
    stay.trial.set_user_attr(attributes.SEGMENTS, [])
    stay.run = Run(
        stay.trial, config={}, seed=0, epochs=4, checkpoint=tmp_path / "t.pt",
        allowance=Allowance(epochs=1),
    )  # fmt: skip
    stay.events.clear()
    with pytest.raises(TrialInterrupted):
        stay.train()  # Anew, as a task that never saves does.
    assert [e for e in stay.events if "asked" in e] == ["asked 3"]
    assert sorted(stay.curve) == [1, 2, 3]


def test_a_task_that_never_saves_has_no_checkpoint(tmp_path: Path) -> None:
    stay = Stay(tmp_path, stops_at=2)
    with pytest.raises(optuna.TrialPruned):
        stay.train(saves=False)
    assert not stay.run.checkpoint.exists()
    assert attributes.CHECKPOINT not in stay.trial.user_attrs


def test_a_trial_that_another_worker_finished_is_dropped(tmp_path: Path) -> None:
    stay = Stay(tmp_path)
    stay.train(last=1)
    stay.trial.study.tell(0, state=TrialState.FAIL)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        stay.train(first=2)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        stay.run.catch_up([0.1, 0.2])


def test_steps_count_from_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="`step >= 1` must hold, but got step=0"):
        Stay(tmp_path).run.report(0.5, 0)

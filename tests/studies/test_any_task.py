"""A study of any objective: resumed and continued if it saves, begun anew if it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.worker import Ending, Worker
from optuna_deepweeds.tasks import FunctionTask, Run
from tests.studies.conftest import Bench, Recorder

SPACE = SPACES["course-small"]


class Fit:
    """An objective whose value rises with its steps; it notes which steps it ran."""

    def __init__(self, *, saves: bool) -> None:
        self.steps: list[tuple[int, int]] = []
        self._saves = saves

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        done = json.loads(run.checkpoint.read_text()) if run.checkpoint.exists() else 0
        value = 0.0
        for step in range(done + 1, run.epochs + 1):

            def save(path: Path, step: int = step) -> None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(step))

            value = 1 - trial.params["learning_rate_init"] / step
            self.steps.append((trial.number, step))
            run.report(value, step, save=save if self._saves else None)
        return value


def work(
    study: optuna.Study, fit: Fit, stop_at: Callable[[int, int], bool] = lambda n, step: False
) -> Ending:
    recorder = Recorder(stop_at)
    task = FunctionTask(fit, space=SPACE)
    return Worker(study, task, observer=recorder, should_stop=lambda: recorder.stopped).run()


@pytest.mark.parametrize("saves", [True, False])
def test_a_trial_that_was_put_back_goes_on_if_its_task_saves(bench: Bench, saves: bool) -> None:
    fit = Fit(saves=saves)
    study = bench.study(trials=1, epochs=4)
    assert work(study, fit, lambda number, step: step == 2) == Ending.INTERRUPTED
    assert work(study, fit) == Ending.TOTAL
    first = [1, 2] if saves else [1, 2, 1, 2]
    assert [step for _, step in fit.steps] == [*first, 3, 4]
    (trial,) = study.get_trials()
    assert list(trial.intermediate_values) == [1, 2, 3, 4]
    assert progress([trial], study.direction).epochs == 4


@pytest.mark.parametrize("saves", [True, False])
def test_stopped_trials_are_continued_if_their_task_saves(bench: Bench, saves: bool) -> None:
    fit = Fit(saves=saves)
    study = bench.study(trials=12, epochs=9, pruner="dora", thaw=True)
    assert work(study, fit) == Ending.TOTAL
    trials = study.get_trials()
    assert any(t.state == TrialState.COMPLETE for t in trials)
    assert any(attributes.ORIGIN in t.user_attrs for t in trials) == saves
    assert len(fit.steps) == progress(trials, study.direction).epochs

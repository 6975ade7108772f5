"""A study of any objective that saves nothing: begun anew, never continued."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.ending import Ending
from optuna_deepweeds.tasks import Run
from tests.studies.conftest import Bench, Recorder


class Fit:
    """An objective whose value rises with its steps; it notes which steps it ran."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        value = 0.0
        for step in range(1, run.epochs + 1):
            value = 1 - trial.params["learning_rate_init"] / step
            self.steps.append(step)
            run.report(value, step)
        return value


def test_a_trial_that_was_put_back_begins_anew(bench: Bench) -> None:
    fit, study = Fit(), bench.study(trials=1, epochs=4)
    ending, _ = bench.work(study, Recorder(lambda number, step: step == 2), train=fit)
    assert ending == Ending.INTERRUPTED
    assert bench.work(study, train=fit)[0] == Ending.TOTAL
    assert fit.steps == [1, 2, 1, 2, 3, 4]
    (trial,) = study.get_trials()
    assert list(trial.intermediate_values) == [1, 2, 3, 4]
    assert progress([trial], study.direction).epochs == 4


def test_stopped_trials_are_not_continued(bench: Bench) -> None:
    fit, study = Fit(), bench.study(trials=12, epochs=9, pruner="dora", thaw=True)
    assert bench.work(study, train=fit)[0] == Ending.TOTAL
    trials = study.get_trials()
    assert any(t.state == TrialState.COMPLETE for t in trials)
    assert not any(attributes.ORIGIN in t.user_attrs for t in trials)
    assert len(fit.steps) == progress(trials, study.direction).epochs

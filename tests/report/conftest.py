"""Small real studies, and every odd kind that a report must stand."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.report.drawing import Drawing
from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.spaces import SPACES

START = datetime(2026, 1, 1)
EPOCHS = 4


def objective(trial: optuna.Trial) -> float:
    """A conditional problem with learning curves; every third trial stops after one epoch."""
    config = SPACES["course"].suggest(trial)
    value = 0.9 - 0.1 * abs(math.log10(config["learning_rate_init"]) + 3)
    value += 0.02 * config["n_conv_layers"]
    for epoch in range(1, EPOCHS + 1):
        trial.report(value * epoch / EPOCHS, epoch)
        if trial.number % 3 == 2 and epoch == 1:
            foreseen = {"epoch": 1, "expected": value, "low": None, "high": None}
            trial.set_user_attr(attributes.ANTICIPATION, {**foreseen, "reason": "<slow>"})
            raise optuna.TrialPruned
    foreseen = {"epoch": 2, "expected": value - 0.01, "low": value - 0.1, "high": value + 0.1}
    trial.set_user_attr(attributes.ANTICIPATION, foreseen)
    return value


def specification(seed: int, **changes: Any) -> dict[str, Any]:
    """The specification of a study, as stored."""
    settings = {"dataset": "demo", "space": "course", "sampler": "random", "pruner": "none"}
    return {**settings, "seed": seed, "epochs": EPOCHS, "sources": [], **changes}


def make_study(n: int = 18, *, seed: int = 0, direction: str = "maximize") -> optuna.Study:
    """A study of `n` trials of `objective`, with a specification."""
    study = optuna.create_study(
        study_name=f"study <{seed}> & more",
        direction=direction,
        sampler=optuna.samplers.RandomSampler(seed),
    )
    study.set_metric_names(["validation accuracy"])
    study.set_user_attr(attributes.SPEC, specification(seed))
    study.optimize(objective, n_trials=n)
    return study


def trial_at(
    start: float,
    end: float,
    value: float | None,
    n_epochs: int,
    *,
    state: TrialState = TrialState.COMPLETE,
    **user_attrs: Any,
) -> FrozenTrial:
    """A trial that ran from `start` to `end` seconds after START and reported `n_epochs`."""
    trial = create_trial(
        state=state,
        value=value,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values=dict.fromkeys(range(1, n_epochs + 1), 0.5 if value is None else value),
        user_attrs={getattr(attributes, k): v for k, v in user_attrs.items()},
    )
    trial.datetime_start = START + timedelta(seconds=start)
    trial.datetime_complete = START + timedelta(seconds=end)
    return trial


def view_of(trials: list[FrozenTrial], direction: str = "maximize") -> StudyView:
    """A view of a study that holds `trials`."""
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    return StudyView.of(study)


def odd_studies() -> dict[str, optuna.Study]:
    """Studies with little or nothing in them, by what is odd."""

    def fail(trial: optuna.Trial) -> float:
        trial.set_user_attr(attributes.FAILURE, "<b>NaN</b> loss")
        SPACES["course"].suggest(trial)
        raise ArithmeticError

    failures = optuna.create_study(direction="maximize")
    failures.optimize(fail, n_trials=3, catch=(ArithmeticError,))
    priors = optuna.create_study(direction="maximize")
    priors.set_user_attr(attributes.PRIOR_SUMMARY, {"elsewhere": {"read": 3, "added": 2}})
    stopped = optuna.create_study(direction="maximize")
    stopped.add_trials([trial_at(0, 1, 0.5, 1, state=TrialState.PRUNED)])
    bare = optuna.create_study()
    bare.optimize(lambda trial: 1.0, n_trials=2)
    not_finite = optuna.create_study()
    not_finite.add_trials([trial_at(0, 1, math.inf, 1), trial_at(1, 2, 0.5, 1)])
    waiting = optuna.create_study()
    waiting.enqueue_trial({"x": 1})
    waiting.ask()
    return {
        "empty": optuna.create_study(),
        "one trial": make_study(1),
        "failures only": failures,
        "priors only": priors,
        "stopped only": stopped,
        "minimize": make_study(14, direction="minimize"),
        "without parameters": bare,
        "infinite value": not_finite,
        "running": waiting,
    }


def assert_every_name_has_something_to_see(drawing: Drawing) -> None:
    """A legend's entry has a symbol, or a line with a length."""
    for trace in drawing.figure.data:
        if trace.name and trace.showlegend is not False:
            seen = {(x, y) for x, y in zip(trace.x, trace.y, strict=True) if y is not None}
            assert len(seen) > (trace.mode == "lines"), trace.name


@pytest.fixture(scope="session")
def study() -> optuna.Study:
    """A study of 18 trials: finished ones and stopped ones."""
    return make_study()

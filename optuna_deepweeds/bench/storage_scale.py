"""How storages with studies of 10,000 trials behave.

The big study has what a real one has: parameters of the course space, full curves, and the
attributes that workers and pruner write. Commands are timed as a user feels them, from the start
of the process to its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.bench.storage_speed import Speed, seconds_of
from optuna_deepweeds.priors import PriorTrial
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import counts, open_storage
from optuna_deepweeds.studies.storage.bulk import bulk_add_trials
from optuna_deepweeds.studies.storage.engine import STORAGE_VARIABLE
from optuna_deepweeds.studies.storage.reading import Reader
from optuna_deepweeds.studies.transfer_file import export_study, import_study

_SPACE = SPACES["course"]
_EPOCHS = 20
_START = datetime(2026, 1, 1)


def scale(
    url: str, other_url: str, folder: Path, *, n_trials: int = 10_000, n_priors: int = 2000
) -> list[Speed]:
    """Times of import, counts, listing, commands and export with a big study.

    Args:
        url, other_url: Two empty storages.
        folder: For an exported file.
        n_trials: Trials of the big study, priors included.
        n_priors: Priors among them.
    """
    storage = open_storage(url)
    spec = StudySpec(dataset="demo", sampler="random", pruner="asha")
    study, _ = manager.create_or_continue("big", spec, Budget(trials=n_trials), storage)
    small, _ = manager.create_or_continue("small", spec, Budget(trials=1), storage)
    generator = np.random.default_rng(0)
    priors = [_prior(i, generator) for i in range(n_priors)]
    trials = [_finished(i, generator) for i in range(n_trials - n_priors)]
    reader = Reader.of(storage)
    file = folder / "big.jsonl.gz"
    other = open_storage(other_url)
    speeds = {
        f"import {n_priors:,} priors": lambda: manager.add_priors(study, priors),
        f"import {len(trials):,} trials": lambda: bulk_add_trials(study, trials),
        "status": lambda: counts.counted_progress(reader, study._study_id),
        "list": lambda: counts.list_studies(reader),
    }
    rows = [Speed(what, seconds_of(call)) for what, call in speeds.items()]
    for arguments in (
        ("study", "status", "big"),
        ("study", "list"),
        ("study", "best", "big"),
        ("study", "stop", "big"),
        ("--version",),
    ):
        command = f"command `{' '.join(arguments[:2])}`"
        rows.append(Speed(command, _command_seconds(url, *arguments)))
    return [
        *rows,
        Speed(f"export {n_trials:,} trials", seconds_of(lambda: export_study(study, file))),
        Speed("import the file", seconds_of(lambda: import_study(file, other))),
        Speed("ask beside a big study", seconds_of(lambda: _ask(small))),
    ]


def _ask(study: optuna.Study) -> None:
    _SPACE.suggest(study.ask())


def _draw(generator: np.random.Generator) -> dict[str, Any]:
    """A point of the space."""
    params: dict[str, Any] = {}
    for parameter in _SPACE.parameters:
        distribution = parameter.distribution
        if isinstance(distribution, CategoricalDistribution):
            value: Any = distribution.choices[generator.integers(len(distribution.choices))]
        else:
            assert isinstance(distribution, (FloatDistribution, IntDistribution))
            low, high = distribution.low, distribution.high
            if distribution.log:
                value = float(np.exp(generator.uniform(np.log(low), np.log(high))))
            else:
                value = float(generator.uniform(low, high))
            value = min(max(value, low), high)
            if isinstance(distribution, IntDistribution):
                value = round(value)
        params[parameter.name] = value
    return _SPACE.project(params)


def _curve(final: float) -> dict[int, float]:
    return {epoch: final * epoch / _EPOCHS for epoch in range(1, _EPOCHS + 1)}


def _prior(i: int, generator: np.random.Generator) -> PriorTrial:
    value = float(generator.uniform())
    return PriorTrial(
        params=_draw(generator),
        value=value,
        direction="maximize",
        metric="accuracy",
        source="bench",
        where=f"line {i + 2}",
        curve=_curve(value),
        epochs=_EPOCHS,
    )


def _finished(i: int, generator: np.random.Generator) -> FrozenTrial:
    params = _draw(generator)
    value = float(generator.uniform())
    user_attrs: Mapping[str, Any] = {
        attributes.WORKER: "host/1234/5678/space",
        attributes.SEED: i,
        attributes.CHECKPOINT: _EPOCHS,
        attributes.DEVICE: "cpu",
        attributes.TRAIN_SECONDS: 12.345,
        attributes.ANTICIPATION: {
            "epoch": 10,
            "expected": value,
            "low": value - 0.1,
            "high": value + 0.1,
            "incumbent": 0.5,
            "decision": "continue",
            "reason": "may still become the best",
        },
    }
    trial = create_trial(
        state=TrialState.COMPLETE,
        value=value,
        params=params,
        distributions={name: _SPACE[name].distribution for name in params},
        user_attrs=dict(user_attrs),
        intermediate_values=_curve(value),
    )
    trial.datetime_start = _START + timedelta(seconds=5 * i)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=12)
    return trial


def _command_seconds(url: str, *arguments: str) -> float:
    """Median wall time of a whole command, as a user feels it."""
    environment = {**os.environ, STORAGE_VARIABLE: url}
    line = [sys.executable, "-m", "optuna_deepweeds", *arguments]

    def run() -> None:
        subprocess.run(line, env=environment, check=True, capture_output=True)

    return median(seconds_of(run) for _ in range(3))

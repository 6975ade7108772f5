"""What a study optimises, as its workers see it.

A task of one's own is any object with the attributes of `Task` that can be called:

    class Fit:
        name, fingerprint, metric, direction = "fit", "1", "accuracy", "maximize"
        space, max_resource = SPACE, 20  # with space None it asks, as by trial.suggest_float

        def __call__(self, trial, run):
            model = Model(run.config, run.seed)
            if run.checkpoint.exists():
                model.load(run.checkpoint)
            while model.epoch < run.epochs:
                accuracy = model.fit_an_epoch()
                run.report(accuracy, model.epoch, save=model.save)
            return accuracy

`Worker(study, Fit(), …).run()` runs it. Without `save` it works too, but its trials begin anew
when they were put back, and a pruner that continues stopped trials cannot continue them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import optuna
from optuna.trial import FrozenTrial

from optuna_deepweeds.tasks.run import Run, seed_of

if TYPE_CHECKING:
    from optuna_deepweeds.spaces import SearchSpace

_LARGER = {"accuracy", "acc", "auc", "f1", "precision", "recall", "reward", "score", "r2"}


def default_direction(metric: str) -> str:
    """Where better lies for who does not say: by the metric's name, else down, as in Optuna."""
    words = set(metric.lower().replace("_", " ").replace("-", " ").split())
    return "maximize" if words & _LARGER else "minimize"


class Task(Protocol):
    """Trains or measures one configuration.

    Attributes:
        name: How to ask for it again.
        fingerprint: Digest of the data and code that decide its results; a study goes on with
            an equal one alone.
        space: Its parameters, suggested by the worker before the call; None if it suggests for
            itself.
        metric: What is reported and returned, in words.
        direction: "maximize" or "minimize".
        max_resource: Steps of a whole training, counted from 1.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def space(self) -> SearchSpace | None: ...
    @property
    def metric(self) -> str: ...
    @property
    def direction(self) -> str: ...
    @property
    def max_resource(self) -> int: ...

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        """Train `run.config`, report each step by `run.report`, and return the final value.

        What `run.report` raises must pass through: it ends the trial. A `TrainingError` fails
        this trial in one line; any other exception fails it with its traceback.
        """
        ...


def train_again(task: Task, trial: FrozenTrial, checkpoint: Path) -> float:
    """The final value of `trial` when it is trained once more to the end, outside its study.

    Args:
        task: The study's.
        trial: One that a worker has trained.
        checkpoint: Where it saves to, if it does.
    """
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    study.enqueue_trial(trial.params)
    asked = study.ask()
    config = {} if task.space is None else task.space.suggest(asked)
    run = Run(
        asked, config=config, seed=seed_of(trial), epochs=task.max_resource, checkpoint=checkpoint
    )
    return task(asked, run)

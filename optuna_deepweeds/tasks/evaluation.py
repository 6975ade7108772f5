"""The last word on a study: its best configurations retrained and scored on unseen images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds import seeds
from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.errors import NotFoundError, TrainingError
from optuna_deepweeds.schema import choose, require
from optuna_deepweeds.tasks.image_task import ImageTask

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from optuna_deepweeds.training import TrainedNetwork

PROTOCOLS = ("holdout", "cv3")
RECIPES: dict[str, dict[str, Any]] = {
    "study": {},
    "tuned": {"schedule": "one_cycle", "flips": True, "shift": 2, "views": 4},
}
"""Training keys that replace a configuration's when it is retrained. `study` trains as the
search did. `tuned` changes nothing that the `course` space fixes (network, Adam, cross entropy,
batch size, highest learning rate), but lets the learning rate rise and fall, and augments."""
_N_FOLDS = 3


@dataclass(frozen=True)
class Score:
    """One retrained network on images that it was not trained on.

    Attributes:
        trial: Number of the trial whose configuration it has.
        seed: Number of the repetition.
        fold: Fold it was scored on, from 1, in `cv3`; else 0.
        confusion: (n_classes, n_classes) counts, rows are true classes, columns predicted ones.
        seconds: Training time.
    """

    trial: int
    seed: int
    fold: int
    confusion: NDArray[np.int64] = field(repr=False)
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of the images that were classified correctly."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def macro_f1(self) -> float:
        """Mean of F1 over the classes that occur or were predicted."""
        hits = np.diag(self.confusion)
        involved = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        return float(np.mean(2 * hits[involved > 0] / involved[involved > 0]))


@dataclass(frozen=True)
class TrialEvaluation:
    """All scores of one configuration.

    Attributes:
        trial: Number of the trial.
        valid_accuracy: What the trial reported in the study.
        config: What was trained, constants and recipe included.
        scores: One a seed (and fold); those that failed are missing.
        failures: One line a failed training.
        network: Of the first seed that could be trained. None in `cv3`, whose networks have seen
            two thirds of the images each.
    """

    trial: int
    valid_accuracy: float
    config: dict[str, Any]
    scores: tuple[Score, ...]
    failures: tuple[str, ...] = ()
    network: TrainedNetwork | None = field(default=None, repr=False)

    @property
    def accuracies(self) -> list[float]:
        """One accuracy a seed; in `cv3` the mean over its folds."""
        by_seed: dict[int, list[float]] = {}
        for score in self.scores:
            by_seed.setdefault(score.seed, []).append(score.accuracy)
        return [float(np.mean(values)) for values in by_seed.values()]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts summed over the scores; empty (0, 0) if every training failed."""
        if not self.scores:
            return np.zeros((0, 0), dtype=np.int64)
        return np.sum([score.confusion for score in self.scores], axis=0, dtype=np.int64)

    def row(self) -> dict[str, Any]:
        """Mean and spread over the seeds as plain values; None where there are too few."""
        seeds = self.accuracies
        return {
            "trial": self.trial,
            "valid_accuracy": self.valid_accuracy if math.isfinite(self.valid_accuracy) else None,
            "mean": float(np.mean(seeds)) if seeds else None,
            "sd": float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
            "macro_f1": float(np.mean([s.macro_f1 for s in self.scores])) if seeds else None,
            "seeds": seeds,
        }


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        study: Its name.
        dataset: Name of the data set.
        protocol: One of `PROTOCOLS`.
        recipe: One of `RECIPES`.
        classes: Names of the classes.
        trials: In the order of their value in the study, by which the network to use is chosen
            too: not by the test images.
    """

    study: str
    dataset: str
    protocol: str
    recipe: str
    classes: tuple[str, ...]
    trials: tuple[TrialEvaluation, ...]

    def recalls(self, trial: TrialEvaluation) -> dict[str, float | None]:
        """Class -> share of its images that `trial` found, None if there are none; empty if every
        training failed."""
        rows = zip(self.classes, trial.confusion.tolist(), strict=False)
        return {
            name: row[i] / sum(row) if any(row) else None for i, (name, row) in enumerate(rows)
        }

    def to_json(self) -> dict[str, Any]:
        """Everything but the networks as plain values, as stored in the study."""
        details = [
            trial.row()
            | {"recall": self.recalls(trial), "confusion": trial.confusion.tolist()}
            | {"config": trial.config, "failures": list(trial.failures)}
            for trial in self.trials
        ]
        kept = ("study", "dataset", "protocol", "recipe")
        return {
            **{name: getattr(self, name) for name in kept},
            "classes": list(self.classes),
            "trials": details,
        }


def evaluate(
    task: ImageTask,
    trials: Sequence[FrozenTrial],
    *,
    study: str,
    seed: int,
    top_k: int = 1,
    n_seeds: int = 3,
    protocol: str = "holdout",
    recipe: str = "study",
    device: str | None = None,
    on_score: Callable[[Score], None] | None = None,
) -> Evaluation:
    """Retrain the best configurations of a study and score them on unseen images.

    `holdout` trains on training and validation images and scores on the test images, which
    nothing before has looked at. `cv3` splits training and validation images into three equal
    folds, class by class (and by whole groups, where the data set has some), trains on two of them
    and scores on the third, in turn; the test images stay untouched.

    Args:
        task: The study's.
        trials: The study's complete ones, best first.
        study: Its name.
        seed: Its seed; those of the repetitions are derived from it, and it did not use them.
        top_k: How many of the trials to retrain.
        n_seeds: Repetitions of each.
        protocol: One of `PROTOCOLS`.
        recipe: One of `RECIPES`.
        device: As for `training.train`.
        on_score: Called with each score as it is there.

    Raises:
        InvalidInputError: If a number or name is out of range.
        NotFoundError: If there are no trials.
    """
    require(top_k >= 1, "top_k >= 1", top_k=top_k)
    require(n_seeds >= 1, "n_seeds >= 1", n_seeds=n_seeds)
    choose("protocol", protocol, PROTOCOLS)
    choose("recipe", recipe, RECIPES)
    if not trials:
        raise NotFoundError(f"study {study!r} has no complete trial yet.")
    evaluated = [
        evaluate_config(
            task,
            {**trial.params, **task.space.constants, **RECIPES[recipe]},
            seed=seed,
            trial=trial.number,
            valid_accuracy=math.nan if trial.value is None else trial.value,
            repetitions=range(n_seeds),
            protocol=protocol,
            device=device,
            on_score=on_score,
        )
        for trial in trials[:top_k]
    ]
    return Evaluation(study, task.name, protocol, recipe, task.images.classes, tuple(evaluated))


def evaluate_config(
    task: ImageTask,
    config: dict[str, Any],
    *,
    seed: int,
    trial: int = 0,
    valid_accuracy: float = math.nan,
    repetitions: Iterable[int] = range(3),
    protocol: str = "holdout",
    device: str | None = None,
    on_score: Callable[[Score], None] | None = None,
) -> TrialEvaluation:
    """Train one configuration and score it on unseen images, as `evaluate` does."""
    from optuna_deepweeds.training import train

    scores: list[Score] = []
    failures: list[str] = []
    first: TrainedNetwork | None = None
    for repetition in repetitions:
        for fold, data, train_on in _splits(task.images, protocol):
            try:
                trained = train(
                    config,
                    data,
                    # More numbers than a trial's own seed is made of, so none of them repeats it.
                    seed=seeds.derive(seed, trial, repetition, fold, 1),
                    epochs=task.max_resource,
                    train_on=train_on,
                    device=device,
                    **task.training,
                )
            except TrainingError as error:
                failures.append(f"trial {trial}, seed {repetition}: {error}")
                continue
            if protocol == "holdout":
                first = first or trained
            confusion = _confusion(trained, data, device)
            scores.append(Score(trial, repetition, fold, confusion, trained.train_seconds))
            if on_score is not None:
                on_score(scores[-1])
    return TrialEvaluation(trial, valid_accuracy, config, tuple(scores), tuple(failures), first)


def _splits(data: Dataset, protocol: str) -> Iterator[tuple[int, Dataset, str]]:
    """Fold number, a data set whose test images are those to score on, and what to train on."""
    if protocol == "holdout":
        yield 0, data, "train+valid"
        return
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    # The same folds for every configuration and seed.
    kind = StratifiedKFold if data.groups is None else StratifiedGroupKFold
    folds = kind(_N_FOLDS, shuffle=True, random_state=_N_FOLDS)
    pool = np.sort(np.concatenate([data.train, data.valid]))
    groups = None if data.groups is None else data.groups[pool]
    for number, (rest, scored) in enumerate(folds.split(pool, data.labels[pool], groups), start=1):
        fold = replace(
            data,
            train=pool[rest],
            valid=pool[:0],
            test=pool[scored],
            fingerprint=f"{data.fingerprint}/cv{_N_FOLDS}-{number}",
        )
        yield number, fold, "train"


def _confusion(trained: TrainedNetwork, data: Dataset, device: str | None) -> NDArray[np.int64]:
    predicted = trained.predict_proba(data.images[data.test], device=device).argmax(axis=1)
    n = len(data.classes)
    pairs = data.labels[data.test] * n + predicted
    return np.bincount(pairs, minlength=n * n).reshape(n, n)

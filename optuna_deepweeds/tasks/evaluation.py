"""The last word on a study: its best configurations retrained and scored on unseen images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.errors import InvalidInputError, NotFoundError, TrainingError
from optuna_deepweeds.tasks.image_task import ImageTask

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from optuna_deepweeds.training import TrainedNetwork

PROTOCOLS = ("holdout", "cv3")
RECIPES: dict[str, dict[str, Any]] = {
    "study": {},
    "tuned": {
        "schedule": "one_cycle",
        "flips": True,
        "shift": 2,
        "views": 4,
    },
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
        """Mean over the classes of F1; a class never predicted counts 0."""
        hits = np.diag(self.confusion)
        involved = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        return float(np.mean(2 * hits / np.maximum(involved, 1)))


@dataclass(frozen=True)
class TrialEvaluation:
    """All scores of one configuration.

    Attributes:
        trial: Number of the trial.
        valid_accuracy: What the trial reported in the study.
        config: What was trained, constants and recipe included.
        scores: One a seed (and fold); those that failed are missing.
        failures: One line a failed training.
    """

    trial: int
    valid_accuracy: float
    config: dict[str, Any]
    scores: tuple[Score, ...]
    failures: tuple[str, ...] = ()

    @property
    def accuracies(self) -> list[float]:
        """One accuracy a seed; in `cv3` the mean over its folds."""
        by_seed: dict[int, list[float]] = {}
        for score in self.scores:
            by_seed.setdefault(score.seed, []).append(score.accuracy)
        return [float(np.mean(values)) for values in by_seed.values()]

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds; NaN if every training failed."""
        return float(np.mean(self.accuracies)) if self.scores else math.nan

    @property
    def standard_deviation(self) -> float:
        """Spread of one seed's accuracy; NaN below two seeds."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else math.nan

    @property
    def macro_f1(self) -> float:
        """Mean macro F1 over the scores; NaN if every training failed."""
        return float(np.mean([s.macro_f1 for s in self.scores])) if self.scores else math.nan

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts summed over the scores; empty (0, 0) if every training failed."""
        if not self.scores:
            return np.zeros((0, 0), dtype=np.int64)
        return np.sum([score.confusion for score in self.scores], axis=0, dtype=np.int64)

    @property
    def recalls(self) -> NDArray[np.float64]:
        """(n_classes,) share of each class's images that were found, over all scores."""
        return np.diag(self.confusion) / np.maximum(self.confusion.sum(axis=1), 1)

    def row(self) -> dict[str, Any]:
        """The figures as plain values; None where every training failed."""
        figures = {
            "valid_accuracy": self.valid_accuracy,
            "mean": self.mean,
            "sd": self.standard_deviation,
            "macro_f1": self.macro_f1,
        }
        known = {key: None if math.isnan(value) else value for key, value in figures.items()}
        return {"trial": self.trial, **known, "seeds": self.accuracies}


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        study: Its name.
        dataset: Name of the data set.
        protocol: One of `PROTOCOLS`.
        recipe: One of `RECIPES`.
        classes: Names of the classes.
        trials: In the order of their validation accuracy in the study.
        network: Of the study's best configuration and the first seed that could be trained: it
            is chosen without looking at the test images. None in `cv3`, whose networks have seen
            two thirds of the images each.
    """

    study: str
    dataset: str
    protocol: str
    recipe: str
    classes: tuple[str, ...]
    trials: tuple[TrialEvaluation, ...]
    network: TrainedNetwork | None = field(repr=False)

    def recall(self, trial: TrialEvaluation) -> dict[str, float]:
        """Class -> share of its images that `trial` found; empty if every training failed."""
        return dict(zip(self.classes, map(float, trial.recalls), strict=False))

    def to_json(self) -> dict[str, Any]:
        """Everything but the network as plain values, as stored in the study."""
        details = [
            trial.row()
            | {"recall": self.recall(trial), "confusion": trial.confusion.tolist()}
            | {"config": trial.config, "failures": list(trial.failures)}
            for trial in self.trials
        ]
        return {
            "study": self.study,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "recipe": self.recipe,
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
    folds, class by class, trains on two of them and scores on the third, in turn; the test images
    stay untouched.

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
    for name, number in (("top_k", top_k), ("n_seeds", n_seeds)):
        if number < 1:
            raise InvalidInputError(f"`{name} >= 1` must hold, but got {name}={number}.")
    for name, chosen, known in (("protocol", protocol, PROTOCOLS), ("recipe", recipe, RECIPES)):
        if chosen not in known:
            raise InvalidInputError(
                f"{name} must be one of {', '.join(known)}, but is {chosen!r}."
            )
    if not trials:
        raise NotFoundError(f"study {study!r} has no complete trial yet.")

    evaluated = []
    networks = []
    for trial in trials[:top_k]:
        config = {**trial.params, **task.space.constants, **RECIPES[recipe]}
        scores, failures, network = evaluate_config(
            config,
            task.images,
            seed=seed,
            number=trial.number,
            n_seeds=n_seeds,
            epochs=task.max_resource,
            protocol=protocol,
            device=device,
            deterministic=task.deterministic,
            on_score=on_score,
        )
        value = float(trial.value) if trial.value is not None else math.nan
        evaluated.append(TrialEvaluation(trial.number, value, config, scores, failures))
        networks.append(network)
    return Evaluation(
        study=study,
        dataset=task.name,
        protocol=protocol,
        recipe=recipe,
        classes=task.images.classes,
        trials=tuple(evaluated),
        network=networks[0],
    )


def evaluate_config(
    config: Mapping[str, Any],
    dataset: Dataset,
    *,
    seed: int,
    number: int = 0,
    first_seed: int = 0,
    n_seeds: int = 3,
    epochs: int = 20,
    protocol: str = "holdout",
    device: str | None = None,
    deterministic: bool = False,
    on_score: Callable[[Score], None] | None = None,
) -> tuple[tuple[Score, ...], tuple[str, ...], TrainedNetwork | None]:
    """Train one configuration and score it on unseen images, as `evaluate` does.

    Args:
        config: The configuration.
        dataset: The images.
        seed: Every repetition's seed is derived from it and `number`.
        number: Stands in the scores as their trial.
        first_seed: Number of the first repetition.
        n_seeds: Repetitions.
        epochs: Of every training.
        protocol: One of `PROTOCOLS`.
        device: As for `training.train`.
        deterministic: As for `training.train`.
        on_score: Called with each score as it is there.

    Returns:
        The scores, one line a training that failed, and the first network of `holdout`.
    """
    from optuna_deepweeds.training import train

    scores: list[Score] = []
    failures: list[str] = []
    first: TrainedNetwork | None = None
    for repetition in range(first_seed, first_seed + n_seeds):
        for fold, data, train_on in _splits(dataset, protocol):
            try:
                trained = train(
                    config,
                    data,
                    seed=_seed(seed, number, repetition, fold),
                    epochs=epochs,
                    train_on=train_on,
                    device=device,
                    deterministic=deterministic,
                )
            except TrainingError as error:
                failures.append(f"trial {number}, seed {repetition}: {error}")
                continue
            confusion = _confusion(trained, data, device)
            score = Score(number, repetition, fold, confusion, trained.train_seconds)
            scores.append(score)
            if first is None and protocol == "holdout":
                first = trained
            if on_score is not None:
                on_score(score)
    return tuple(scores), tuple(failures), first


def three_folds(data: Dataset) -> list[NDArray[np.int64]]:
    """Training and validation images in three folds of equal shares of every class.

    A function of the data set alone: every configuration and seed is scored on the same folds.
    """
    rng = np.random.default_rng(_N_FOLDS)
    pool = np.sort(np.concatenate([data.train, data.valid]))
    folds: list[list[NDArray[np.int64]]] = [[] for _ in range(_N_FOLDS)]
    for label in range(len(data.classes)):
        members = rng.permutation(pool[data.labels[pool] == label])
        for number, fold in enumerate(folds):
            fold.append(members[number::_N_FOLDS])
    return [np.concatenate(fold) for fold in folds]


def _splits(data: Dataset, protocol: str) -> Iterator[tuple[int, Dataset, str]]:
    """Fold number, a data set whose test images are those to score on, and what to train on."""
    if protocol == "holdout":
        yield 0, data, "train+valid"
        return
    folds = three_folds(data)
    for number, scored in enumerate(folds, start=1):
        rest = np.concatenate([fold for fold in folds if fold is not scored])
        nothing = rest[:0]
        fingerprint = f"{data.fingerprint}/cv{_N_FOLDS}-{number}"
        yield (
            number,
            replace(data, train=rest, valid=nothing, test=scored, fingerprint=fingerprint),
            "train",
        )


def _confusion(trained: TrainedNetwork, data: Dataset, device: str | None) -> NDArray[np.int64]:
    predicted = trained.predict_proba(data.images[data.test], device=device).argmax(axis=1)
    n = len(data.classes)
    pairs = data.labels[data.test] * n + predicted
    return np.bincount(pairs, minlength=n * n).reshape(n, n)


def _seed(study_seed: int, number: int, repetition: int, fold: int) -> int:
    # Three numbers more than a trial's own seed is made of, so none of them repeats it.
    sequence = np.random.SeedSequence([study_seed, number, repetition, fold, 1])
    return int(sequence.generate_state(1)[0])

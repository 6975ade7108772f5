"""The image task: train a network on a data set, judged by its validation images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from optuna.distributions import CategoricalDistribution
from optuna.trial import FixedTrial, FrozenTrial

from optuna_deepweeds import datasets
from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.errors import (
    InvalidInputError,
    NotFoundError,
    TrainingError,
    TrainingInterrupted,
    UnusableCheckpointError,
)
from optuna_deepweeds.schema import did_you_mean
from optuna_deepweeds.spaces import SPACES, SearchSpace
from optuna_deepweeds.tasks.run import Run, TrialInterrupted, seed_of

if TYPE_CHECKING:
    import optuna

    from optuna_deepweeds.training import EpochReport, TrainedNetwork

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageTask:
    """Trains the network that a configuration describes; a `Task`.

    Attributes:
        images: What it is trained on.
        space: Of the configurations.
        max_resource: Epochs of a whole training.
        training: Further arguments of `training.train`.
    """

    images: Dataset = field(repr=False)
    space: SearchSpace
    max_resource: int
    training: Mapping[str, Any] = field(default_factory=dict)

    metric: ClassVar[str] = "validation accuracy"
    direction: ClassVar[str] = "maximize"

    @property
    def name(self) -> str:
        """The data set's."""
        return self.images.name

    @property
    def fingerprint(self) -> str:
        """Digest of images, labels and split."""
        return self.images.fingerprint

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        """Train to the last epoch and return the validation accuracy of it, or of the best one.

        Goes on from the run's checkpoint where it exists.

        Raises:
            TrainingError: If the network cannot be trained; nothing goes on from it.
        """
        try:
            try:
                network = self._train_in(run)
            except UnusableCheckpointError as error:
                # Written by another version, or damaged by a full disk: worth its epochs again,
                # not worth the trial.
                logger.warning("trial %d starts anew: %s", trial.number, error)
                run.checkpoint.unlink(missing_ok=True)
                network = self._train_in(run)
        except TrainingInterrupted as error:
            raise TrialInterrupted from error
        except TrainingError:
            run.checkpoint.unlink(missing_ok=True)
            raise
        return float(network.valid_accuracy)

    def network(self, trial: FrozenTrial, checkpoint: Path) -> TrainedNetwork:
        """The network of `trial` as it was after its last epoch, or its best one.

        It is read from `checkpoint`; where that has been deleted, the network is trained again
        from the trial's own seed (on the CPU this gives the same network). One that was stopped
        is trained from there to the end.

        Raises:
            InvalidInputError: If no worker has trained the trial.
        """
        config = {**trial.params, **self.space.constants}
        return self._train(config, checkpoint, seed=seed_of(trial))

    def _train_in(self, run: Run) -> TrainedNetwork:
        def on_epoch(report: EpochReport) -> None:
            run.report(report.valid_accuracy, report.epoch, save=report.save)

        return self._train(
            run.config,
            run.checkpoint,
            seed=run.seed,
            device=run.device,
            on_resume=run.catch_up,
            on_epoch=on_epoch,
            should_stop=run.should_stop,
        )

    def _train(
        self, config: dict[str, Any], checkpoint: Path, *, seed: int, **options: Any
    ) -> TrainedNetwork:
        from optuna_deepweeds.training import train

        return train(
            config,
            self.images,
            seed=seed,
            epochs=self.max_resource,
            **self.training,
            resume_from=checkpoint if checkpoint.exists() else None,
            **options,
        )


def make_task(
    dataset: str,
    *,
    space: str | SearchSpace,
    epochs: int,
    fold: int = 0,
    size: int = datasets.SIDE,
    group_by: str = "",
    fingerprint: str = "",
    data_dir: Path | None = None,
    training: Mapping[str, Any] | None = None,
    progress: datasets.Progress | None = None,
) -> ImageTask:
    """The task that a specification names.

    Args:
        dataset: Name of a data set, or a folder.
        space: A search space, or its name.
        epochs: Of a whole training.
        fold: As for `datasets.load`, like `size`, `group_by`, `data_dir` and `progress`.
        fingerprint: What the task's must be; empty if it may be any.
        training: As for the task.

    Raises:
        NotFoundError: If the images are not on this machine.
        InvalidInputError: If there is no such data set, or its images are others than those
            asked for.
    """
    space = SPACES[space] if isinstance(space, str) else space
    if space.name not in SPACES:
        _check_space(space)
    try:
        images = datasets.load(
            dataset, data_dir=data_dir, fold=fold, size=size, group_by=group_by, progress=progress
        )
    except NotFoundError as error:
        if not fingerprint or not datasets.is_folder(dataset):
            raise
        raise NotFoundError(f"{error} Where it was moved, --data-dir tells its place.") from None
    if fingerprint and images.fingerprint != fingerprint:
        splits = ", ".join(f"{len(at):,} {split}" for split, at in images.splits.items())
        advice = "bring them back, or go on by --accept-changes"
        raise InvalidInputError(
            f"the images of {dataset} must be those that the study began with "
            f"({fingerprint[:12]}), but are {images.fingerprint[:12]} ({splits}): {advice}."
        )
    return ImageTask(images, space, epochs, training or {})


def _check_space(space: SearchSpace) -> None:
    """Refuse a space of one's own that describes no network or no training.

    Raises:
        InvalidInputError: It does.
    """
    from optuna_deepweeds.training.networks import build_network
    from optuna_deepweeds.training.settings import Settings, read_settings

    names = {*space.distributions, *space.constants}
    known = {f.name for f in fields(Settings)}
    for usual in SPACES.values():
        known |= {*usual.distributions, *usual.constants}
    switches = {p.condition.parent for p in space.parameters if p.condition is not None}
    for name in sorted(names - known - switches):
        hint = did_you_mean(name, known)
        raise InvalidInputError(f"space {space.name}: training knows no {name!r}.{hint}")
    ends: dict[str, Any] = {}
    for name, d in space.distributions.items():
        ends[name] = d.choices[-1] if isinstance(d, CategoricalDistribution) else d.high  # type: ignore[attr-defined]
    config = space.suggest(FixedTrial(ends))  # type: ignore[arg-type]
    try:
        build_network(config, 2)
        read_settings(config)
    except InvalidInputError as error:
        raise InvalidInputError(f"space {space.name}: {error}") from None

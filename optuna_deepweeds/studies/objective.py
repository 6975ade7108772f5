"""The bridge between an Optuna trial and the training room: train, report, prune, checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from optuna_deepweeds import attributes, seeds
from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.errors import (
    TrainingError,
    TrainingInterrupted,
    UnusableCheckpointError,
)
from optuna_deepweeds.studies.spec import StudySpec

if TYPE_CHECKING:
    from optuna_deepweeds.training import EpochReport, TrainedNetwork

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 10.0
"""A running trial saves its checkpoint at the first epoch's end after this many seconds."""


class TrialInterrupted(Exception):
    """The worker was told to stop; the trial goes back into the queue."""


class TrialTakenOver(Exception):
    """Another worker declared this trial dead and finished it; its further work is void."""


def training_seed(seed: int, root: int) -> int:
    """Seed of the network of trial number `root` in a study with `seed`."""
    return seeds.derive(seed, root, "training")


class Objective:
    """Trains the network of one trial after another and reports each epoch.

    Args:
        spec: The study's specification.
        dataset: The images.
        device: "cpu", "cuda", "cuda:1", … or None for CUDA where there is one.
        deterministic: Ask for reproducible kernels on CUDA.
        should_stop: Polled during training; true interrupts the trial.
        on_epoch: Told the epoch and its validation accuracy, for display.
        train: What stands in for `training.train`, in benchmarks of everything around it.

    Attributes:
        must_finish: Train the next trial to its last epoch whatever the pruner says.
    """

    def __init__(
        self,
        spec: StudySpec,
        dataset: Dataset,
        *,
        device: str | None = None,
        deterministic: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
        on_epoch: Callable[[int, float], None] = lambda epoch, value: None,
        train: Callable[..., TrainedNetwork] | None = None,
    ) -> None:
        self._spec = spec
        self._dataset = dataset
        self._device = device
        self._deterministic = deterministic
        self._should_stop = should_stop
        self._on_epoch = on_epoch
        self._train = train
        self.must_finish = False

    def __call__(
        self, trial: optuna.Trial, config: Mapping[str, Any], *, seed: int, checkpoint: Path
    ) -> float:
        """Train `config` and return the validation accuracy of the last epoch.

        Goes on from `checkpoint` where it exists. Where this returns, or raises because the trial
        was pruned or interrupted between epochs, `checkpoint` holds the last epoch; within an
        epoch it holds the last one saved.

        Raises:
            optuna.TrialPruned: If the pruner stops or pauses the trial.
            TrialInterrupted: If `should_stop` became true.
            TrialTakenOver: If another worker has finished the trial.
            TrainingError: If the network cannot be trained.
        """
        reported: set[int] = set()
        if {attributes.INHERITED, attributes.SEGMENTS} & trial.user_attrs.keys():
            # It goes on from an earlier spell or from another trial, with the curve so far.
            reported |= trial.storage.get_trial(trial._trial_id).intermediate_values.keys()
        saved_at = time.monotonic()

        def save(report: EpochReport) -> None:
            nonlocal saved_at
            report.save(checkpoint)
            trial.set_user_attr(attributes.CHECKPOINT, report.epoch)
            saved_at = time.monotonic()

        def finish_epoch(report: EpochReport) -> None:
            if time.monotonic() - saved_at >= CHECKPOINT_SECONDS:
                # Before the report: a reported epoch that no checkpoint holds would be trained
                # again, while an unreported one is read back from the checkpoint's curve.
                save(report)
            for epoch, value in enumerate(report.curve, start=1):
                if epoch not in reported:
                    trial.report(value, step=epoch)
                    reported.add(epoch)
            self._on_epoch(report.epoch, report.valid_accuracy)
            if report.epoch >= self._spec.epochs:
                save(report)
            elif trial.should_prune() and not self.must_finish:
                save(report)
                raise optuna.TrialPruned
            elif self._should_stop():
                save(report)
                raise TrialInterrupted

        def run(resume_from: Path | None) -> TrainedNetwork:
            return self._trainer()(
                config,
                self._dataset,
                seed=seed,
                epochs=self._spec.epochs,
                device=self._device,
                deterministic=self._deterministic,
                on_epoch=finish_epoch,
                resume_from=resume_from,
                should_stop=self._should_stop,
            )

        try:
            try:
                network = run(checkpoint if checkpoint.exists() else None)
            except UnusableCheckpointError as error:
                # Written by another version, or damaged by a full disk: worth its epochs again,
                # not worth the trial.
                logger.warning("trial %d starts anew: %s", trial.number, error)
                checkpoint.unlink(missing_ok=True)
                network = run(None)
        except optuna.exceptions.UpdateFinishedTrialError as error:
            raise TrialTakenOver from error
        except TrainingInterrupted as error:
            raise TrialInterrupted from error
        except TrainingError:
            checkpoint.unlink(missing_ok=True)
            raise
        return float(network.valid_accuracy)

    def _trainer(self) -> Callable[..., TrainedNetwork]:
        if self._train is not None:
            return self._train
        from optuna_deepweeds.training import train

        return train

"""`train`: one configuration, one data set, a fixed number of epochs.

The images lie on the device as one uint8 tensor, and nothing crosses to the host inside an
epoch: order and learning rates are tables there, losses are summed there, and one
read at the end of the epoch brings loss and accuracy. All randomness of an epoch is derived from
(seed, epoch), so a resumed run needs no generator states.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.errors import (
    DivergedError,
    InvalidInputError,
    OutOfMemoryError,
    UnusableCheckpointError,
)
from optuna_deepweeds.training import checkpoint, runtime
from optuna_deepweeds.training.session import Kept, Session
from optuna_deepweeds.training.settings import read_settings
from optuna_deepweeds.training.trained import TrainedNetwork

_CHECKPOINT = "optuna_deepweeds checkpoint"
TRAIN_ON = ("train", "train+valid")


@dataclass(frozen=True)
class EpochReport:
    """What is known after an epoch.

    Attributes:
        epoch: Counted from 1.
        valid_accuracy: Share of validation images classified correctly; NaN if they were
            trained on.
        train_loss: Mean loss over the epoch's images, as they were seen.
        seconds: Time of this epoch, validation included.
    """

    epoch: int
    valid_accuracy: float
    train_loss: float
    seconds: float
    _save: Callable[[Path], None] = field(repr=False)

    def save(self, path: Path) -> None:
        """Write a checkpoint that `train(resume_from=path)` continues from; atomically.

        Only valid until `on_epoch` returns: afterwards training moves on.
        """
        self._save(path)


def train(
    config: Mapping[str, Any],
    data: Dataset,
    *,
    seed: int,
    epochs: int = 20,
    device: str | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_resume: Callable[[Sequence[float]], None] | None = None,
    resume_from: Path | None = None,
    deterministic: bool = False,
    train_on: str = "train",
    keep_best: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> TrainedNetwork:
    """Train the network that `config` describes and return it with its learning curve.

    On the CPU the curve is a function of the arguments (and of the kind of processor and the
    number of threads), resumed or not. No global generator is touched.

    Args:
        config: A configuration of the `course` or `modern` space, see `settings.py`.
        data: The images and their split. The test images are never read.
        seed: Of initial weights, order, dropout and augmentation.
        epochs: Passes over the training images; it also sets the length of a schedule.
        device: `cpu`, `cuda`, `cuda:N`; by default CUDA where there is any.
        on_epoch: Called after each new epoch. What it raises ends the run and is raised here.
        on_resume: Called with the curve of the checkpoint before anything is trained; likewise.
        resume_from: A checkpoint of the same run, saved by `EpochReport.save`.
        deterministic: On CUDA, use only operations that give the same result every time.
        train_on: `train`, or `train+valid` for a final fit without validation.
        keep_best: Return the network of the epoch of the best validation accuracy, the first of
            equals, in place of the last one's. That accuracy flatters, having been chosen by.
            Without validation it is the last one's in any case.
        should_stop: Asked before every step; true ends the run within its epoch.

    Raises:
        TrainingInterrupted: If `should_stop` returned true.
        InvalidInputError: If the configuration or another argument is not valid.
        UnusableCheckpointError: If the checkpoint is damaged or belongs to another run.
        NotFoundError: If there is no checkpoint at `resume_from`.
        DivergedError: If an epoch's loss is NaN or infinite.
        OutOfMemoryError: If the device's memory does not suffice.
    """
    if epochs < 1:
        raise InvalidInputError(f"`epochs >= 1` must hold, but got epochs={epochs}.")
    if train_on not in TRAIN_ON:
        raise InvalidInputError(f"`train_on in {TRAIN_ON}` must hold, but got {train_on!r}.")
    target = runtime.choose_device(device)
    identity = {
        "config": dict(config),
        "fingerprint": data.fingerprint,
        "seed": seed,
        "epochs": epochs,
        "train_on": train_on,
        **({"keep_best": True} if keep_best and train_on == "train" else {}),
    }
    settings = read_settings(config)
    # Of any length: the first epochs are the same.
    is_open = settings.schedule == "constant"
    saved = None if resume_from is None else _read_checkpoint(resume_from, identity, is_open)
    with runtime.backend(target, deterministic=deterministic), runtime.freed_memory(target):
        run: Session | None = None
        try:
            run = Session(config, data, seed=seed, epochs=epochs, device=target, train_on=train_on)
            if saved is not None:
                _load(run, saved, resume_from)
                if on_resume is not None:
                    on_resume(tuple(saved["curve"]))
            return _epochs(run, identity, saved, on_epoch, should_stop)
        except (RuntimeError, MemoryError) as error:
            if runtime.is_out_of_memory(error):
                # The frames of the failed step would keep its tensors alive.
                traceback.clear_frames(error.__traceback__)
                raise OutOfMemoryError(
                    f"network and batch must fit into the memory of {target}, but do not "
                    f"(batch_size={config.get('batch_size')})."
                ) from None
            raise
        finally:
            if run is not None:
                run.release()


def _epochs(
    run: Session,
    identity: Mapping[str, Any],
    saved: Mapping[str, Any] | None,
    on_epoch: Callable[[EpochReport], None] | None,
    should_stop: Callable[[], bool] | None,
) -> TrainedNetwork:
    curve: list[float] = list(saved["curve"]) if saved else []
    losses: list[float] = list(saved["train_losses"]) if saved else []
    total_seconds = float(saved["train_seconds"]) if saved else 0.0
    keeps_best = "keep_best" in identity
    best: Kept | None = (saved or {}).get("best") if keeps_best else None
    for epoch in range(len(curve) + 1, identity["epochs"] + 1):
        start = time.perf_counter()
        train_loss, valid_accuracy = run.epoch(epoch, should_stop)
        seconds = time.perf_counter() - start
        if train_loss - train_loss != 0:
            raise DivergedError(
                f"the training loss must stay finite, but is {train_loss} in epoch {epoch} "
                f"(learning_rate_init={run.settings.learning_rate_init:g})."
            )
        curve.append(valid_accuracy)
        losses.append(train_loss)
        total_seconds += seconds
        if keeps_best and valid_accuracy > max(curve[:-1], default=-1.0):
            weights = run.state()["network"]
            best = epoch, {name: value.to("cpu", copy=True) for name, value in weights.items()}

        def save(path: Path, seconds: float = total_seconds, best: Any = best) -> None:
            content = {
                "kind": _CHECKPOINT,
                **identity,
                "curve": curve,
                "train_losses": losses,
                "train_seconds": seconds,
                "state": run.state(),
                **({"best": best} if best else {}),
            }
            checkpoint.write(content, path)

        if on_epoch is not None:
            on_epoch(EpochReport(epoch, valid_accuracy, train_loss, seconds, save))
    return run.trained(tuple(curve), tuple(losses), total_seconds, best)


def _read_checkpoint(path: Path, identity: Mapping[str, Any], is_open: bool) -> dict[str, Any]:
    try:
        saved = checkpoint.read(path, _CHECKPOINT)
    except InvalidInputError as error:
        raise UnusableCheckpointError(str(error)) from error
    for key, value in identity.items():
        if is_open and key == "epochs" and len(saved["curve"]) <= value:
            continue
        if saved.get(key) != value:
            raise UnusableCheckpointError(
                f"the checkpoint {path} must belong to this run, but its {key} is "
                f"{saved.get(key)!r} instead of {value!r}."
            )
    return saved


def _load(run: Session, saved: Mapping[str, Any], path: Path | None) -> None:
    try:
        run.load_state(saved["state"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UnusableCheckpointError(
            f"the checkpoint {path} must hold the state of this version's network, "
            f"but: {type(error).__name__} {error}."
        ) from error
    except RuntimeError as error:
        if runtime.is_out_of_memory(error):
            raise
        raise UnusableCheckpointError(
            f"the checkpoint {path} must fit this version's network, "
            f"but: {str(error).splitlines()[0]}"
        ) from error

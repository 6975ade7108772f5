"""Training speed of this package against the usual pipeline, in the same run.

The usual pipeline is what a project starts with: JPEG files of 256x256 pixels read through
`ImageFolder`, `Resize`, `ToTensor` and a `DataLoader` with 4 workers; float32, eager, torch's
default memory layout, a plain Adam and a loss read back at every step. Both train the same
network on the same images (as many as `deepweeds-balanced` has; their content is noise, which
does not matter for speed) and score the validation images after every epoch.

Every measurement runs in a process of its own, so that memory peaks and CUDA contexts are its
own; starting the process and its first step are not counted, capturing graphs is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from optuna_deepweeds.bench.training_runs import (
    N_CLASSES,
    apart,
    arithmetic_limit,
    images,
    ours,
    usual,
    write_photographs,
)
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.studies.launch.gpu_sharing import shared_gpu

_SHARED = {"kernel_size": 3, "dropout_rate": 0.2, "use_BN": True, "global_avg_pooling": True}
CONFIGS: dict[str, dict[str, Any]] = {
    "published-best": {
        **_SHARED,
        "n_conv_layers": 3,
        "n_channels_conv_0": 505,
        "n_channels_conv_1": 298,
        "n_channels_conv_2": 438,
        "n_fc_layers": 1,
        "n_channels_fc_0": 344,
        "batch_size": 103,
        "learning_rate_init": 0.000196,
    },
    "small": {
        **_SHARED,
        "n_conv_layers": 2,
        "n_channels_conv_0": 32,
        "n_channels_conv_1": 32,
        "n_fc_layers": 1,
        "n_channels_fc_0": 64,
        "batch_size": 128,
        "learning_rate_init": 0.001,
    },
    # Every parameter at the middle of its range, on its own scale.
    "median": {
        **_SHARED,
        "n_conv_layers": 2,
        "n_channels_conv_0": 128,
        "n_channels_conv_1": 90,
        "n_fc_layers": 2,
        "n_channels_fc_0": 128,
        "n_channels_fc_1": 90,
        "batch_size": 32,
        "learning_rate_init": 0.003,
    },
}
CONFIGS["batch-7"] = {**CONFIGS["small"], "batch_size": 7}
"""Name -> configuration of the `course` space."""

N_TRAIN, N_VALID = 5440, 1360
_FULL_EPOCHS = 20


@dataclass(frozen=True)
class Measurement:
    """One configuration on one device.

    Attributes:
        config: Its name in `CONFIGS`.
        device: Name of the device.
        workers: Trainings that ran at the same time on it.
        epochs: Epochs of a training.
        seconds: Time of one training, validation included.
        seconds_of_20: The same for 20 epochs, scaled if fewer were trained.
        images_per_second: Training images of all workers together.
        peak_mib: Peak memory of one training: allocated CUDA memory, or of the CPU process.
        limit_share: Share of the device's arithmetic limit that the training used: its
            multiplications and additions a second over those of a large matrix product in the
            same run (bfloat16 on CUDA, float32 on the CPU).
        cpu_seconds: Processor time of one training, of all its threads; on a machine that others
            use as well it says more than `seconds`.
        usual_epochs: Epochs of the usual pipeline; 0 if it was not run.
        usual_seconds: Its time for them.
        usual_cpu_seconds: Its processor time, that of its loader processes included.
        usual_peak_mib: Its peak memory, without that of its loader processes.
        ratio: Time of an epoch of the usual pipeline over ours.
        cpu_ratio: Processor time of an epoch of the usual pipeline over ours.
    """

    config: str
    device: str
    workers: int
    epochs: int
    seconds: float
    seconds_of_20: float
    cpu_seconds: float
    images_per_second: float
    peak_mib: float
    limit_share: float
    usual_epochs: int
    usual_seconds: float | None
    usual_cpu_seconds: float | None
    usual_peak_mib: float | None
    ratio: float | None
    cpu_ratio: float | None


COLUMNS = tuple(field.name for field in fields(Measurement))


def measure(
    names: Sequence[str],
    *,
    device: str | None = None,
    epochs: int = 20,
    usual_epochs: int = 2,
    workers: int = 1,
    n_train: int = N_TRAIN,
    n_valid: int = N_VALID,
    on_result: Callable[[Measurement], None] | None = None,
) -> list[Measurement]:
    """Measure each configuration of `names`.

    Args:
        names: Names of `CONFIGS`.
        device: As for `training.train`.
        epochs: Epochs of our training.
        usual_epochs: Epochs of the usual pipeline, whose time grows evenly; 0 leaves it out.
        workers: Trainings at the same time on the device, each in its own process.
        n_train: Training images.
        n_valid: Validation images.
        on_result: Called with each measurement as it is there.

    Raises:
        InvalidInputError: If a name is unknown, a number is out of range or there is no such
            device.
    """
    from optuna_deepweeds.training.runtime import choose_device

    for name in names:
        if name not in CONFIGS:
            raise InvalidInputError(f"no configuration {name!r}; there are {', '.join(CONFIGS)}.")
    for what, number, least in (
        ("epochs", epochs, 1),
        ("usual_epochs", usual_epochs, 0),
        ("workers", workers, 1),
    ):
        if number < least:
            raise InvalidInputError(f"`{what} >= {least}` must hold, but got {what}={number}.")
    target = str(choose_device(device))
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-training-") as scratch:
        folder = Path(scratch)
        if usual_epochs:
            write_photographs(images(n_train, n_valid), folder)
        (limit,) = apart(arithmetic_limit, device=target)
        for name in names:
            config = CONFIGS[name]
            with shared_gpu(workers, target) as environment:
                runs = apart(
                    ours,
                    config,
                    epochs,
                    (n_train, n_valid),
                    device=target,
                    n=workers,
                    environment=environment,
                )
            seconds = max(run["seconds"] for run in runs)
            cpu_seconds = max(run["cpu_seconds"] for run in runs)
            peer: dict[str, Any] = {}
            ratio = cpu_ratio = None
            if usual_epochs:
                (peer,) = apart(usual, config, usual_epochs, folder, device=target)
                ratio = (peer["seconds"] / usual_epochs) / (seconds / epochs)
                cpu_ratio = (peer["cpu_seconds"] / usual_epochs) / (cpu_seconds / epochs)
            work = flops_an_image(config) * n_train * epochs * workers
            result = Measurement(
                config=name,
                device=limit["device"],
                workers=workers,
                epochs=epochs,
                seconds=seconds,
                seconds_of_20=seconds / epochs * _FULL_EPOCHS,
                cpu_seconds=cpu_seconds,
                images_per_second=n_train * epochs * workers / seconds,
                peak_mib=max(run["peak_mib"] for run in runs),
                limit_share=work / seconds / limit["flops"],
                usual_epochs=usual_epochs,
                usual_seconds=peer.get("seconds"),
                usual_cpu_seconds=peer.get("cpu_seconds"),
                usual_peak_mib=peer.get("peak_mib"),
                ratio=ratio,
                cpu_ratio=cpu_ratio,
            )
            results.append(result)
            if on_result is not None:
                on_result(result)
    return results


def flops_an_image(config: Mapping[str, Any]) -> float:
    """Multiplications and additions of training on one image, forward and backward."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from optuna_deepweeds.training.networks import build_network

    network = build_network(config, N_CLASSES).to("meta")
    batch = 2  # batch norm wants more than one value a channel
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(batch, 3, 32, 32, device="meta")).sum().backward()
    return counter.get_total_flops() / batch

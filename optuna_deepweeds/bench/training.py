"""Training speed of this package against the usual pipeline, in the same run.

The usual pipeline (`training_runs.usual`) is what a project starts with. Both train the same
network on the same images (as many as `deepweeds-balanced` has; their content is noise, which
does not matter for speed) and score the validation images after every epoch.

Every measurement runs in a process of its own, so that memory peaks and CUDA contexts are its
own; starting the process and its first step are not counted, capturing graphs is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna_deepweeds.bench.training_runs import (
    N_CLASSES,
    apart,
    arithmetic_limit,
    course_config,
    images,
    ours,
    usual,
    write_photographs,
)
from optuna_deepweeds.schema import choose, require
from optuna_deepweeds.studies.launch.gpu_sharing import shared_gpu

CONFIGS: dict[str, dict[str, Any]] = {
    "published-best": course_config((505, 298, 438), (344,), batch_size=103, rate=0.000196),
    "small": course_config((32, 32), (64,), batch_size=128, rate=0.001),
    # Every parameter at the middle of its range, on its own scale.
    "median": course_config((128, 90), (128, 90), batch_size=32, rate=0.003),
    "batch-7": course_config((32, 32), (64,), batch_size=7, rate=0.001),
}
"""Name -> configuration of the `course` space."""

N_TRAIN, N_VALID = 5440, 1360
_FULL_EPOCHS = 20


def measure(
    names: Sequence[str],
    *,
    device: str | None = None,
    epochs: int = 20,
    usual_epochs: int = 2,
    workers: int = 1,
    n_train: int = N_TRAIN,
    n_valid: int = N_VALID,
) -> Iterator[dict[str, Any]]:
    """Measure each configuration of `names` and yield its record as it is there.

    Args:
        names: Names of `CONFIGS`.
        device: As for `training.train`.
        epochs: Epochs of our training.
        usual_epochs: Epochs of the usual pipeline, whose time grows evenly; 0 leaves it out.
        workers: Trainings at the same time on the device, each in its own process.
        n_train: Training images.
        n_valid: Validation images.

    Yields:
        `seconds` of one training, validation included, and for 20 epochs; `cpu_seconds`, those
        of all its threads, which say more on a machine that others use as well;
        `images_per_second` of all workers together; `peak_mib`, allocated CUDA memory or that of
        the process; `limit_share`, the share of the device's arithmetic limit: multiplications
        and additions a second over those of a large matrix product in the same run (bfloat16 on
        CUDA, float32 on the CPU). `usual_…` are the usual pipeline's, its loader processes
        included but for memory, and `ratio` and `cpu_ratio` its time for an epoch over ours;
        None if it was left out.

    Raises:
        InvalidInputError: If a name is unknown, a number is out of range or there is no such
            device.
    """
    from optuna_deepweeds.training.runtime import choose_device

    for name in names:
        choose("configuration", name, CONFIGS)
    require(epochs >= 1, "epochs >= 1", epochs=epochs)
    require(usual_epochs >= 0, "usual_epochs >= 0", usual_epochs=usual_epochs)
    require(workers >= 1, "workers >= 1", workers=workers)
    target = str(choose_device(device))
    with tempfile.TemporaryDirectory(prefix="bench-training-") as scratch:
        folder = Path(scratch)
        if usual_epochs:
            write_photographs(images(n_train, n_valid), folder)
        (limit,) = apart(arithmetic_limit, device=target)
        for name in names:
            config, sizes = CONFIGS[name], (n_train, n_valid)
            with shared_gpu(workers, target) as environment:
                options: dict[str, Any] = {"n": workers, "environment": environment}
                runs = apart(ours, config, epochs, sizes, device=target, **options)
            own = {key: max(run[key] for run in runs) for key in runs[0]}
            peer: dict[str, float] = {}
            if usual_epochs:
                (peer,) = apart(usual, config, usual_epochs, folder, device=target)
            ratios = {key: peer[key] / usual_epochs / (own[key] / epochs) for key in peer}
            images_per_second = n_train * epochs * workers / own["seconds"]
            yield {
                "config": name,
                "device": limit["device"],
                "workers": workers,
                "epochs": epochs,
                "seconds": own["seconds"],
                "seconds_of_20": own["seconds"] / epochs * _FULL_EPOCHS,
                "cpu_seconds": own["cpu_seconds"],
                "images_per_second": images_per_second,
                "peak_mib": own["peak_mib"],
                "limit_share": flops_an_image(config) * images_per_second / limit["flops"],
                "usual_epochs": usual_epochs,
                **{f"usual_{k}": peer.get(k) for k in ("seconds", "cpu_seconds", "peak_mib")},
                "ratio": ratios.get("seconds"),
                "cpu_ratio": ratios.get("cpu_seconds"),
            }


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

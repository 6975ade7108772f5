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

import csv
import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.studies.gpu_sharing import shared_gpu

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

N_TRAIN, N_VALID, N_CLASSES = 5440, 1360, 8
_PHOTOGRAPH_SIDE = 256
_LOADER_WORKERS = 4
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
        (limit,) = _apart([(_arithmetic_limit, (target,))])
        for name in names:
            sizes = (n_train, n_valid)
            with shared_gpu(workers, target) as environment:
                ours = _apart([(_ours, (name, target, epochs, sizes))] * workers, environment)
            seconds = max(run["seconds"] for run in ours)
            usual: dict[str, Any] = {}
            ratio = cpu_ratio = None
            cpu_seconds = max(run["cpu_seconds"] for run in ours)
            if usual_epochs:
                (usual,) = _apart([(_usual, (name, target, usual_epochs, folder))])
                ratio = (usual["seconds"] / usual_epochs) / (seconds / epochs)
                cpu_ratio = (usual["cpu_seconds"] / usual_epochs) / (cpu_seconds / epochs)
            work = flops_an_image(CONFIGS[name]) * n_train * epochs * workers
            result = Measurement(
                config=name,
                device=limit["device"],
                workers=workers,
                epochs=epochs,
                seconds=seconds,
                seconds_of_20=seconds / epochs * _FULL_EPOCHS,
                cpu_seconds=cpu_seconds,
                images_per_second=n_train * epochs * workers / seconds,
                peak_mib=max(run["peak_mib"] for run in ours),
                limit_share=work / seconds / limit["flops"],
                usual_epochs=usual_epochs,
                usual_seconds=usual.get("seconds"),
                usual_cpu_seconds=usual.get("cpu_seconds"),
                usual_peak_mib=usual.get("peak_mib"),
                ratio=ratio,
                cpu_ratio=cpu_ratio,
            )
            results.append(result)
            if on_result is not None:
                on_result(result)
    return results


def write_csv(results: Sequence[Measurement], path: Path) -> None:
    """Write one row a measurement.

    Raises:
        InvalidInputError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(result) for result in results)
    except OSError as error:
        raise InvalidInputError(f"{path} must be writable, but: {error.strerror}.") from None


def images(n_train: int, n_valid: int) -> Dataset:
    """Coloured noise in the form of a data set; equal for equal sizes."""
    rng = np.random.default_rng(0)
    n = n_train + n_valid
    return Dataset(
        name="noise",
        images=rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
        labels=np.arange(n, dtype=np.int64) % N_CLASSES,
        classes=tuple(f"class-{i}" for i in range(N_CLASSES)),
        train=np.arange(n_train),
        valid=np.arange(n_train, n),
        test=np.arange(0),
        fingerprint="noise",
    )


def write_photographs(data: Dataset, folder: Path) -> None:
    """Write the images as JPEG files of 256x256 pixels, a folder a class (`ImageFolder`)."""
    from PIL import Image

    for split, indices in (("train", data.train), ("valid", data.valid)):
        for label in range(len(data.classes)):
            (folder / split / str(label)).mkdir(parents=True)
        for i in indices:
            image = Image.fromarray(data.images[i])
            image = image.resize((_PHOTOGRAPH_SIDE,) * 2, Image.Resampling.BILINEAR)
            image.save(folder / split / str(data.labels[i]) / f"{i}.jpg", quality=90)


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


def _apart(
    calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]],
    environment: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Run the calls at the same time, each in a fresh process `environment` added."""
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(
            len(calls), context, initializer=os.environ.update, initargs=(environment or {},)
        ) as pool,
    ):
        start = manager.Barrier(len(calls))
        return [f.result() for f in [pool.submit(_started, start, *call) for call in calls]]


def _started(
    start: Any, function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]
) -> Any:
    # Torch imports parts of itself at the first step, and a device wakes at its first use; that
    # happens once a process, and a worker trains many networks.
    _ours("small", arguments[0] if len(arguments) == 1 else arguments[1], 1, (64, 64))
    start.wait()
    return function(*arguments)


def _ours(name: str, device: str, epochs: int, sizes: tuple[int, int]) -> dict[str, Any]:
    from optuna_deepweeds.training import train

    data = images(*sizes)
    with _measured(device) as measured:
        train(CONFIGS[name], data, seed=0, epochs=epochs, device=device)
    return measured


def _usual(name: str, device: str, epochs: int, folder: Path) -> dict[str, Any]:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from optuna_deepweeds.training.networks import build_network

    # It warns where there are fewer cores than its workers.
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    config = CONFIGS[name]
    transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    loaders = {
        split: DataLoader(
            ImageFolder(str(folder / split), transform=transform),
            batch_size=config["batch_size"],
            shuffle=split == "train",
            num_workers=_LOADER_WORKERS,
            # What the loader does by itself on Linux; this process was spawned and would make it
            # spawn too, at a second or more a worker and epoch.
            multiprocessing_context="fork",
        )
        for split in ("train", "valid")
    }
    with _measured(device) as measured:
        network = build_network(config, N_CLASSES, torch.Generator().manual_seed(0)).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=config["learning_rate_init"])
        criterion = nn.CrossEntropyLoss()
        for _ in range(epochs):
            network.train()
            loss_sum = 0.0
            for x, y in loaders["train"]:
                x, y = x.to(device), y.to(device)
                optimizer.zero_grad()
                loss = criterion(network(x), y)
                loss.backward()
                optimizer.step()
                loss_sum += loss.item()
            network.eval()
            correct = 0
            with torch.no_grad():
                for x, y in loaders["valid"]:
                    correct += (network(x.to(device)).argmax(1) == y.to(device)).sum().item()
    return measured


class _measured:
    """Times a block and takes its peak memory into the dictionary that it yields."""

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        self._device = device

    def __enter__(self) -> dict[str, Any]:
        import torch

        if self._cuda:
            torch.cuda.synchronize(self._device)  # first: it wakes the device
            torch.cuda.reset_peak_memory_stats(self._device)
        self._result: dict[str, Any] = {}
        self._cpu_start = _cpu_seconds()
        self._start = time.perf_counter()
        return self._result

    def __exit__(self, *exception: object) -> None:
        import torch

        if self._cuda:
            torch.cuda.synchronize(self._device)
            peak = torch.cuda.max_memory_allocated(self._device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self._result.update(
            seconds=time.perf_counter() - self._start,
            cpu_seconds=_cpu_seconds() - self._cpu_start,
            peak_mib=peak / 2**20,
        )


def _cpu_seconds() -> float:
    """Processor time of this process and of those children that have ended."""
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _arithmetic_limit(device: str) -> dict[str, Any]:
    """Fastest of several large matrix products, in operations a second."""
    import torch

    cuda = device.startswith("cuda")
    side, dtype = (8192, torch.bfloat16) if cuda else (1536, torch.float32)
    # Random: processors save power on equal numbers, and then run faster than on any real data.
    a = torch.randn(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(10):
        with _measured(device) as measured:
            a @ a
        best = min(best, measured["seconds"])
    name = (
        torch.cuda.get_device_name(device) if cuda else f"cpu ({torch.get_num_threads()} threads)"
    )
    return {"flops": 2 * side**3 / best, "device": name}

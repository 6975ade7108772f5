"""What `bench training` measures, each in a process of its own: our training and the usual one."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from optuna_deepweeds.datasets.dataset import Dataset

N_CLASSES = 8
_PHOTOGRAPH_SIDE = 256
_LOADER_WORKERS = 4


def course_config(
    convolutions: Sequence[int], dense: Sequence[int], *, batch_size: int, rate: float
) -> dict[str, Any]:
    """A point of the `course` space: channels of its layers, batch size and learning rate."""
    return {
        "kernel_size": 3,
        "dropout_rate": 0.2,
        "use_BN": True,
        "global_avg_pooling": True,
        "n_conv_layers": len(convolutions),
        **{f"n_channels_conv_{i}": n for i, n in enumerate(convolutions)},
        "n_fc_layers": len(dense),
        **{f"n_channels_fc_{i}": n for i, n in enumerate(dense)},
        "batch_size": batch_size,
        "learning_rate_init": rate,
    }


# Narrow and wide: kernels are compiled for either, once on a machine.
_WARM_UP = course_config((32, 64), (32,), batch_size=32, rate=0.001)


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


def apart(
    function: Callable[..., dict[str, Any]],
    *arguments: Any,
    device: str,
    n: int = 1,
    environment: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Call `function` with `arguments` and `device` at the same time in `n` fresh processes.

    Args:
        environment: Added to that of the processes.
    """
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(n, context, _add, (dict(environment or {}),)) as pool,
    ):
        start = manager.Barrier(n)
        calls = [pool.submit(_started, start, device, function, arguments) for _ in range(n)]
        return [call.result() for call in calls]


def _add(environment: dict[str, str]) -> None:
    os.environ.update(environment)


def _started(
    start: Any, device: str, function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]
) -> Any:
    # Torch imports parts of itself at the first step, and a device wakes at its first use; that
    # happens once a process, and a worker trains many networks.
    ours(_WARM_UP, 1, (64, 64), device=device)
    start.wait()
    return function(*arguments, device=device)


def ours(
    config: Mapping[str, Any], epochs: int, sizes: tuple[int, int], *, device: str
) -> dict[str, Any]:
    """Train `config` with this package on as many images as `sizes`, train and valid, say."""
    from optuna_deepweeds.training import train

    data = images(*sizes)
    with _measured(device) as measured:
        train(config, data, seed=0, epochs=epochs, device=device)
    return measured


def usual(config: Mapping[str, Any], epochs: int, folder: Path, *, device: str) -> dict[str, Any]:
    """Train the network of `config` in the usual way on the photographs in `folder`.

    `ImageFolder`, `Resize`, `ToTensor` and a `DataLoader` with 4 workers; float32, eager, torch's
    default memory layout, a plain Adam and a loss read back at every step.
    """
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from optuna_deepweeds.training.networks import build_network

    # It warns where there are fewer cores than its workers.
    warnings.filterwarnings("ignore", message="This DataLoader will create")
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


@contextmanager
def _measured(device: str) -> Iterator[dict[str, Any]]:
    """Times a block and takes its peak memory into the dictionary that it yields."""
    import torch

    is_cuda, result = device.startswith("cuda"), dict[str, Any]()
    if is_cuda:
        torch.cuda.synchronize(device)  # first: it wakes the device
        torch.cuda.reset_peak_memory_stats(device)
    cpu_start, start = _cpu_seconds(), time.perf_counter()
    yield result
    if is_cuda:
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result["seconds"] = time.perf_counter() - start
    result["cpu_seconds"] = _cpu_seconds() - cpu_start
    result["peak_mib"] = peak / 2**20


def _cpu_seconds() -> float:
    """Processor time of this process and of those children that have ended."""
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def arithmetic_limit(*, device: str) -> dict[str, Any]:
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

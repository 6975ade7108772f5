"""A data set of a few coloured squares, learnt within seconds."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.training import TrainedNetwork, train

Fit = Callable[..., TrainedNetwork]

if not torch.cuda.is_available():
    # Triton reads it when it is first imported, which no test module does by itself.
    os.environ["TRITON_INTERPRET"] = "1"

SMALL: dict[str, Any] = {
    "n_conv_layers": 2, "use_BN": True, "global_avg_pooling": True, "n_channels_conv_0": 8,
    "n_channels_conv_1": 8, "n_fc_layers": 1, "n_channels_fc_0": 16, "batch_size": 7,
    "learning_rate_init": 0.01, "kernel_size": 3, "dropout_rate": 0.2,
}  # fmt: skip


def make_squares(n: int = 64, seed: int = 0, size: int = 32) -> Dataset:
    """Noise with a square in one of four colours: the colour is the class."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 120, (n, size, size, 3), dtype=np.uint8)
    labels = np.arange(n) % 4
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 250]], dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = rng.integers(0, size - 16, 2)
        image[row : row + 16, column : column + 16] = colours[label]
    index = rng.permutation(n)
    return Dataset(
        name="squares",
        images=images,
        labels=labels.astype(np.int64),
        classes=("red", "green", "blue", "white"),
        train=index[: n // 2],
        valid=index[n // 2 : 3 * n // 4],
        test=index[3 * n // 4 :],
        fingerprint=f"squares-{n}-{seed}-{size}",
    )


@pytest.fixture(scope="session")
def squares() -> Dataset:
    return make_squares()


@pytest.fixture(scope="session")
def fit(squares: Dataset) -> Fit:
    """`train` on the squares, by default one epoch of the small network on the CPU."""

    def run(*, data: Dataset = squares, **options: Any) -> TrainedNetwork:
        options = {"config": SMALL, "seed": 0, "epochs": 1, "device": "cpu", **options}
        return train(data=data, **options)

    return run


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Curves are compared exactly, which holds for a fixed number of threads.
    torch.set_num_threads(1)

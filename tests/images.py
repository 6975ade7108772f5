"""Images to train on in milliseconds."""

from __future__ import annotations

import numpy as np

from optuna_deepweeds.datasets import Dataset


def tiny() -> Dataset:
    """Two classes that differ in brightness, 48 images; an epoch takes milliseconds."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    images = rng.integers(0, 120, (48, 32, 32, 3)) + 100 * labels[:, None, None, None]
    order = np.arange(48)
    return Dataset(
        name="demo",
        images=images.astype(np.uint8),
        labels=labels.astype(np.int64),
        classes=("dark", "bright"),
        train=order[:32],
        valid=order[32:40],
        test=order[40:],
        fingerprint="tiny",
    )

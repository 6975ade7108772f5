from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np

from optuna_deepweeds import datasets
from optuna_deepweeds.datasets.demo import CLASSES, generate


def test_pictures_are_a_function_of_the_seed_in_every_process() -> None:
    images, labels = generate(48, seed=3)
    other, _ = generate(48, seed=4)
    assert images.shape == (48, 32, 32, 3) and images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert not np.array_equal(images, other)
    program = (
        "import hashlib; from optuna_deepweeds.datasets.demo import generate;"
        "print(hashlib.sha256(generate(48, seed=3)[0].tobytes()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == hashlib.sha256(images.tobytes()).hexdigest()


def test_classes_are_balanced_and_pictures_differ() -> None:
    images, labels = generate(80, seed=1)
    assert np.bincount(labels).tolist() == [10] * len(CLASSES)
    assert len({image.tobytes() for image in images}) == 80
    assert images.reshape(80, -1).std(axis=1).min() > 5


def test_demo_loads_without_any_file() -> None:
    data = datasets.load("demo")
    sizes = {"train": len(data.train), "valid": len(data.valid), "test": len(data.test)}
    assert sizes == datasets.DEMO_SIZES
    assert data.classes == CLASSES
    for indices in (data.train, data.valid, data.test):
        assert len(set(np.bincount(data.labels[indices]).tolist())) == 1
    together = np.concatenate([data.train, data.valid, data.test])
    assert np.array_equal(together, np.arange(len(data.images)))
    assert len(data.fingerprint) == 64

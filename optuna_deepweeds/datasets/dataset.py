"""A data set as the training room sees it: arrays in memory and a split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Dataset:
    """Labelled images and which of them train, validate and test.

    Attributes:
        name: The name it was loaded by.
        images: (n, size, size, 3) uint8, RGB; 32x32 in the sets that come with names.
        labels: (n,) int64, indices into `classes`.
        classes: Names of the classes.
        train: (n_train,) int64, indices into `images`.
        valid: (n_valid,) int64, likewise.
        test: (n_test,) int64, likewise; never looked at during a search.
        fingerprint: Hexadecimal digest of images, labels and split.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]
    fingerprint: str = ""


def fingerprint(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    valid: NDArray[np.int64],
    test: NDArray[np.int64],
) -> str:
    """Return the SHA-256 over images, labels and split, in hexadecimal.

    Shapes enter too, so that no two different data sets feed the same bytes; integers are hashed
    in little-endian order, so that every machine gets the same digest.
    """
    digest = hashlib.sha256()
    for array in (images, labels, train, valid, test):
        digest.update(repr(array.shape).encode())
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(little.data)
    return digest.hexdigest()

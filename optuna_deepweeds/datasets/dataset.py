"""A data set as the training room sees it: arrays in memory and a split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Sides of the images in the sets that come with names."""
Progress = Callable[[str, int, int | None, str], None]
"""Called with (what is being done, units done, units in all or None, unit: "B" or "images")."""


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
        groups: (n,) int64, equal for images that must come into the same split; None if each is
            for itself.
        notes: What its owner should know of how it was read, a sentence each.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]
    fingerprint: str = ""
    groups: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, NDArray[np.int64]]:
        """Name -> indices of the images of each split."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def lines(self) -> list[str]:
        """A line for each split, its notes, and what accuracy is worth where classes differ."""
        lines = []
        for split, at in self.splits.items():
            counts = np.bincount(self.labels[at], minlength=len(self.classes))
            there = counts[counts > 0]
            of = f"of {len(counts)} " if len(there) < len(counts) else ""
            low, high = (there.min(), there.max()) if len(there) else (0, 0)
            each = f"{low:,} each" if low == high else f"{low:,} to {high:,} each"
            lines.append(f"{split}: {len(at):,} images, {len(there)} {of}classes, {each}")
        lines += self.notes
        counts = np.bincount(self.labels[self.train], minlength=len(self.classes))
        most, least = int(counts.argmax()), int(counts.argmin())
        if counts[most] >= 2 * counts[least]:
            large, small = self.classes[most], self.classes[least]
            lines.append(
                f"Unequal classes: {large!r} has {counts[most] / max(counts[least], 1):.1f} times "
                f"the images of {small!r}. Accuracy counts each image alike: to say {large!r} "
                f"always is right for {np.mean(self.labels[self.valid] == most):.0%} of valid."
            )
        return lines


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

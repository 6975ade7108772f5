"""Deterministic splits: by the digest of each name, or of whole groups.

Integers and SHA-256 alone decide, so that every machine gets the same split. `sizes` are
(3, n_classes): how many images of each class are to train, validate and test, in this order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TRAIN, VALID, TEST = 0, 1, 2


def by_name(
    names: Sequence[str], labels: NDArray[np.integer], sizes: NDArray[np.int64]
) -> NDArray[np.int8]:
    """Return the role of each image: 0, 1, 2 or -1 for unused.

    The images of a class are sorted by the hexadecimal SHA-256 of their name (in UTF-8); the
    first ones test, the next ones validate, the next ones train, and what is left is unused.
    """
    roles = np.full(len(names), -1, dtype=np.int8)
    for of_class, order in zip(sizes.T.tolist(), _ordered(names, labels, sizes), strict=True):
        start = 0
        for role in (TEST, VALID, TRAIN):
            roles[order[start : start + of_class[role]]] = role
            start += of_class[role]
    return roles


def by_group(
    groups: Sequence[str], labels: NDArray[np.integer], sizes: NDArray[np.int64], order: int = 0
) -> NDArray[np.int8]:
    """Return the role of each image, the same for all images of a group.

    From all groups in training, each in turn moves to the split where it lessens most the sum of
    missing² / size over splits and classes, until none moves. Images whose label is no column of
    `sizes` have no say.

    Args:
        groups: n names of groups.
        labels: (n,) columns of `sizes`.
        sizes: What is aimed at.
        order: Another number, another order in which the groups are moved.
    """
    counts = {group: np.zeros(sizes.shape[1], dtype=np.int64) for group in groups}
    for group, label in zip(groups, labels.tolist(), strict=True):
        if label < sizes.shape[1]:
            counts[group][label] += 1
    weights = 10_200_000 // np.maximum(sizes, 1)
    totals = np.zeros_like(sizes)
    totals[TRAIN] = sum(counts.values())
    roles = dict.fromkeys(sorted(counts, key=lambda group: digest(f"{order}-{group}")), TRAIN)
    moved = True
    while moved:
        moved = False
        for group, now in roles.items():
            totals[now] -= counts[group]
            missing = np.maximum(sizes - totals, 0) ** 2
            left = np.maximum(sizes - totals - counts[group], 0) ** 2
            costs = (weights * (left - missing)).sum(axis=1).tolist()
            best = min((now, TRAIN, VALID, TEST), key=costs.__getitem__)
            totals[best] += counts[group]
            roles[group] = best
            moved = moved or best != now
    return np.array([roles[group] for group in groups], dtype=np.int8)


def cut(
    roles: NDArray[np.int8],
    names: Sequence[str],
    labels: NDArray[np.integer],
    sizes: NDArray[np.int64],
) -> NDArray[np.int8]:
    """`roles` with at most `sizes` images, the first ones in the order of `by_name`; -1 beyond."""
    result = np.full_like(roles, -1)
    for of_class, order in zip(sizes.T.tolist(), _ordered(names, labels, sizes), strict=True):
        for role, size in enumerate(of_class):
            result[[i for i in order if roles[i] == role][:size]] = role
    return result


def _ordered(
    names: Sequence[str], labels: NDArray[np.integer], sizes: NDArray[np.int64]
) -> list[list[int]]:
    """The images of each class in the order of their names' digests."""
    digests = [digest(name) for name in names]
    return [
        sorted(np.flatnonzero(labels == label).tolist(), key=digests.__getitem__)
        for label in range(sizes.shape[1])
    ]


def digest(text: str) -> str:
    """The hexadecimal SHA-256 of `text` in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()

"""DeepWeeds in two forms: all nine classes with the official folds, and the eight weeds balanced.

Source: Olsen et al., DeepWeeds: A multiclass weed species image dataset for deep learning,
Scientific Reports 9:2058 (2019), CC BY 4.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.datasets.dataset import Dataset, fingerprint
from optuna_deepweeds.datasets.prepared import (
    CLASSES,
    N_FOLDS,
    PREPARED_NAME,
    TEST,
    TRAIN,
    VALID,
    read_prepared,
)
from optuna_deepweeds.errors import InvalidInputError

WEEDS = CLASSES[:-1]
N_BALANCED_TEST = 150
N_BALANCED_VALID = 170
N_BALANCED_TRAIN = 680
_N_BALANCED = N_BALANCED_TEST + N_BALANCED_VALID + N_BALANCED_TRAIN


def load_deepweeds(data_dir: Path, fold: int) -> Dataset:
    """Return all images of the prepared file with official fold `fold` (0 to 4) as split.

    Raises:
        InvalidInputError: No such fold, a split without images, or a damaged prepared file.
        NotFoundError: There is no prepared file.
    """
    if fold not in range(N_FOLDS):
        raise InvalidInputError(f"fold must be 0 to {N_FOLDS - 1}, but is {fold}.")
    prepared = read_prepared(data_dir)
    roles = prepared.folds[fold]
    for split, role in (("training", TRAIN), ("validation", VALID), ("test", TEST)):
        if role not in roles:
            raise InvalidInputError(
                f"each split must have images, but fold {fold} of {data_dir / PREPARED_NAME} "
                f"({len(roles)} images) has no {split} image."
            )
    return _dataset("deepweeds", prepared.images, prepared.labels, CLASSES, roles)


def load_balanced(data_dir: Path) -> Dataset:
    """Return 1,000 images of each of the eight weeds with the split of `balanced_split`.

    `images` holds these 8,000 alone, in the order of labels.csv.

    Raises:
        InvalidInputError: A weed has fewer than 1,000 images, or the prepared file is damaged.
        NotFoundError: There is no prepared file.
    """
    prepared = read_prepared(data_dir)
    counts = np.bincount(prepared.labels, minlength=len(CLASSES))
    for weed, name in enumerate(WEEDS):
        if counts[weed] < _N_BALANCED:
            raise InvalidInputError(
                f"deepweeds-balanced needs {_N_BALANCED} images of each weed, but "
                f"{data_dir / PREPARED_NAME} has {counts[weed]} of {name}; prepare all images "
                "with `optuna-deepweeds data prepare`."
            )
    roles = balanced_split(prepared.filenames.tolist(), prepared.labels)
    chosen = np.flatnonzero(roles >= 0)
    images = np.ascontiguousarray(prepared.images[chosen])
    return _dataset("deepweeds-balanced", images, prepared.labels[chosen], WEEDS, roles[chosen])


def _dataset(
    name: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    classes: tuple[str, ...],
    roles: NDArray[np.integer],
) -> Dataset:
    """The images with the splits that their `roles` say."""
    train, valid, test = (np.flatnonzero(roles == role) for role in (TRAIN, VALID, TEST))
    known = labels.astype(np.int64)
    digest = fingerprint(images, known, train, valid, test)
    return Dataset(name, images, known, classes, train, valid, test, digest)


def balanced_split(filenames: Sequence[str], labels: NDArray[np.integer]) -> NDArray[np.int8]:
    """Return the role of each image in `deepweeds-balanced`: 0, 1, 2 or -1 for unused.

    The photographs of one weed are sorted by the hexadecimal SHA-256 of their file name (the
    bare name, such as `20160928-140314-0.jpg`, in UTF-8). The first 150 are for testing (2), the
    next 170 for validation (1), the next 680 for training (0); what is left, and every negative,
    is unused. The split depends on nothing else, so that anyone gets the same one.

    Args:
        filenames: n names.
        labels: (n,) indices into `CLASSES`.
    """
    roles = np.full(len(filenames), -1, dtype=np.int8)
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in filenames]
    for weed in range(len(WEEDS)):
        order = sorted(np.flatnonzero(labels == weed).tolist(), key=digests.__getitem__)
        roles[order[:N_BALANCED_TEST]] = TEST
        roles[order[N_BALANCED_TEST : N_BALANCED_TEST + N_BALANCED_VALID]] = VALID
        roles[order[N_BALANCED_TEST + N_BALANCED_VALID : _N_BALANCED]] = TRAIN
    return roles

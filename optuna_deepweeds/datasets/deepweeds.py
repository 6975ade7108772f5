"""DeepWeeds in three forms: all nine classes with the official folds, and 1,000 photographs of
each of the eight weeds, split photograph by photograph or scene by scene.

Source: Olsen et al., DeepWeeds: A multiclass weed species image dataset for deep learning,
Scientific Reports 9:2058 (2019), CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.datasets.dataset import Dataset, fingerprint
from optuna_deepweeds.datasets.prepared import (
    CLASSES,
    N_FOLDS,
    PREPARED_NAME,
    read_prepared,
)
from optuna_deepweeds.datasets.split import TEST, TRAIN, VALID, by_group, by_name, cut
from optuna_deepweeds.errors import InvalidInputError

WEEDS = CLASSES[:-1]
N_BALANCED_TEST = 150
N_BALANCED_VALID = 170
N_BALANCED_TRAIN = 680
_N_BALANCED = N_BALANCED_TEST + N_BALANCED_VALID + N_BALANCED_TRAIN
_SIZES = np.array([[N_BALANCED_TRAIN], [N_BALANCED_VALID], [N_BALANCED_TEST]]).repeat(8, axis=1)
# The order in which `scenes_split` moves scenes: of 1,000 orders the one that leaves fewest
# photographs missing, 26 of 8,000 (with no split they could be fewer than 20).
_ORDER = 458


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


def load_balanced(data_dir: Path, *, by_scene: bool = False) -> Dataset:
    """Return 1,000 images of each of the eight weeds with the split of `balanced_split`.

    `images` holds these 8,000 alone, in the order of labels.csv. `by_scene` takes the split of
    `scenes_split`, and the 7,974 images that it uses.

    Raises:
        InvalidInputError: A weed has fewer than 1,000 images, or the prepared file is damaged.
        NotFoundError: There is no prepared file.
    """
    known = "deepweeds-scenes" if by_scene else "deepweeds-balanced"
    prepared = read_prepared(data_dir)
    counts = np.bincount(prepared.labels, minlength=len(CLASSES))
    for weed, name in enumerate(WEEDS):
        if counts[weed] < _N_BALANCED:
            raise InvalidInputError(
                f"{known} needs {_N_BALANCED} images of each weed, but "
                f"{data_dir / PREPARED_NAME} has {counts[weed]} of {name}; prepare all images "
                "with `optuna-deepweeds data prepare`."
            )
    split = scenes_split if by_scene else balanced_split
    names = prepared.filenames.tolist()
    roles = split(names, prepared.labels)
    chosen = np.flatnonzero(roles >= 0)
    images = np.ascontiguousarray(prepared.images[chosen])
    data = _dataset(known, images, prepared.labels[chosen], WEEDS, roles[chosen])
    if not by_scene:
        return data
    return replace(data, groups=np.unique(_scenes(names), return_inverse=True)[1][chosen])


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
    return by_name(filenames, labels, _SIZES)


def scenes_split(filenames: Sequence[str], labels: NDArray[np.integer]) -> NDArray[np.int8]:
    """Return the role of each image in `deepweeds-scenes`, as `balanced_split` does.

    No two splits share a scene: the photographs of one day and one camera, which the names tell,
    as they are DAY-TIME-CAMERA.jpg. Scenes differ in size and species, so the sizes of
    `balanced_split` cannot be had exactly; what a split has too many of a weed is unused.
    """
    roles = by_group(_scenes(filenames), labels, _SIZES, _ORDER)
    return cut(roles, filenames, labels, _SIZES)


def _scenes(filenames: Sequence[str]) -> list[str]:
    """Day and camera of each photograph."""
    stems = [name.rpartition(".")[0].split("-") for name in filenames]
    return [f"{stem[0]}-{stem[-1]}" for stem in stems]

"""Anyone's images: a folder that holds a folder for each class, read in place.

    photos/CLASS/IMAGE
    photos/SPLIT/CLASS/IMAGE        splits by the names of `SPLIT_NAMES`

Splits that have no folder are taken from the training images. Hidden folders and files, and those
that begin with `__`, are ignored.
"""

from __future__ import annotations

import os
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.datasets.dataset import SIDE, Dataset, Progress, fingerprint
from optuna_deepweeds.datasets.decoded import decoded
from optuna_deepweeds.datasets.photographs import is_photograph
from optuna_deepweeds.datasets.split import TEST, TRAIN, VALID, by_group, by_name, digest
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError
from optuna_deepweeds.schema import require

SIZES = (16, 32, 64, 96, 128)
SPLIT_NAMES = {
    TRAIN: ("train", "training"),
    VALID: ("valid", "val", "validation", "dev"),
    TEST: ("test", "testing", "eval", "evaluation"),
}
MIN_TRAIN = 3
"""Fewest training images of a class; three-fold cross-validation needs them."""
_ROLES = {name: role for role, names in SPLIT_NAMES.items() for name in names}
_WORDS = {TRAIN: "training", VALID: "validation", TEST: "test"}
# Of the images that no folder says the use of; as of deepweeds-balanced.
_SHARES = {VALID: 0.17, TEST: 0.15}
_DEEPEST = 4  # Folders below are not looked into: a link may lead round and round.

_Parts = tuple[str, ...]
"""A path below the folder, such as ("train", "Lantana", "1.jpg")."""


def load_folder(
    folder: Path,
    *,
    name: str,
    size: int = SIDE,
    group_by: str = "",
    progress: Progress | None = None,
) -> Dataset:
    """Return the images of `folder`, which is only read.

    The classes are the folders of the training split, sorted by name; those of other splits are
    found by name. Where no folder says which images of a class validate and test, the digests of
    CLASS/FILE decide. Images that cannot be decoded are left out and named in the notes.

    Args:
        folder: The folder.
        name: Of the data set.
        size: Sides of the images, one of `SIZES`.
        group_by: A regular expression that is searched in CLASS/FILE. Images in which it finds
            the same text (of its groups, where it has some) come into the same split.
        progress: Called now and then while images are decoded.

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: It is not of the form above, or has too few images.
        DeepWeedsError: The system refuses to read it.
    """
    require(size in SIZES, f"size in {SIZES}", size=size)
    if not folder.exists():
        raise NotFoundError(f"no folder {folder}.")
    if not folder.is_dir():
        advice = "; unpack the archive" if zipfile.is_zipfile(folder) else ""
        raise InvalidInputError(f"{folder} must be a folder of class folders{advice}.")
    everything, folders, others = _scan(folder)
    kinds = ", ".join(f"{suffix} {n:,}" for suffix, n in others.most_common(4))
    if all(len(parts) == 1 for parts in everything):
        what = "images" if everything else f"no image ({kinds})" if kinds else "no image"
        raise InvalidInputError(f"{folder} must hold a folder for each class, but holds {what}.")
    classes, found, roles = _arrange(folder, everything, folders)
    names = [_plain(parts[-2]) for parts in found]
    keys = [f"{name}/{_plain(parts[-1])}" for name, parts in zip(names, found, strict=True)]
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[name] for name in names], dtype=np.int64)
    given = np.array(roles, dtype=np.int8)
    missing = [role for role in _SHARES if role not in roles]
    groups = None
    if group_by:
        if not missing:
            raise InvalidInputError(f"--group-by makes splits, but {folder} has all of them.")
        groups = np.array(_groups(keys, group_by))
    # Before the work is done, and again where it showed that images are of no use.
    split, notes = _split(folder, classes, keys, labels, given, missing, groups)
    images, damaged = decoded(folder, ["/".join(parts) for parts in found], size, progress)
    if damaged:
        sound = [i for i in range(len(found)) if i not in damaged]
        images, labels, keys = images[sound], labels[sound], [keys[i] for i in sound]
        groups = None if groups is None else groups[sound]
        split, notes = _split(folder, classes, keys, labels, given[sound], missing, groups)
        listed = [f"{'/'.join(found[i])} ({damaged[i]})" for i in sorted(damaged)[:3]]
        more = f" and {len(damaged) - 3:,} more" if len(damaged) > 3 else ""
        notes.append(
            f"Left out: {len(damaged):,} of {len(found):,} images that cannot be read: "
            f"{', '.join(listed)}{more}."
        )
    if kinds:
        notes.append(f"Left out: files that are no known images ({kinds}).")
    if len(everything) > len(found):
        n_loose = len(everything) - len(found)
        notes.append(f"Left out: images in no class folder ({n_loose:,}).")
    train, valid, test = (np.flatnonzero(split == role) for role in (TRAIN, VALID, TEST))
    seen = {hash(images[i].tobytes()) for i in train}
    n_equal = sum(hash(images[i].tobytes()) in seen for i in test)
    if n_equal:
        notes.append(f"Test images that are equal to training images: {n_equal:,}.")
    content = digest("\0".join((fingerprint(images, labels, train, valid, test), *classes)))
    numbers = None if groups is None else np.unique(groups, return_inverse=True)[1]
    return Dataset(
        name, images, labels, classes, train, valid, test, content, numbers, tuple(notes)
    )


def _scan(folder: Path) -> tuple[list[_Parts], list[_Parts], Counter[str]]:
    """The images and the folders in `folder`, by name, and the number of other files by suffix."""

    def refuse(error: OSError) -> None:
        raise DeepWeedsError(f"{error.filename} cannot be read: {error.strerror}.")

    images: list[_Parts] = []
    folders: list[_Parts] = []
    others: Counter[str] = Counter()
    for place, inside, files in os.walk(folder, onerror=refuse, followlinks=True):
        at = Path(place).relative_to(folder).parts
        shown = [name for name in inside if not name.startswith((".", "__"))]
        inside[:] = sorted(shown) if len(at) < _DEEPEST else []
        folders += [(*at, name) for name in inside]
        for name in files:
            if is_photograph(name):
                images.append((*at, name))
            elif not name.startswith((".", "__")):
                others[Path(name).suffix.lower() or name] += 1
    return sorted(images), folders, others


def _arrange(
    folder: Path, images: list[_Parts], folders: list[_Parts]
) -> tuple[tuple[str, ...], list[_Parts], list[int]]:
    """The classes, the images in class folders, and the role of each."""
    below = [parts for parts in images if len(parts) > 1]
    has_splits = any(len(parts) == 3 and _role(parts[0]) is not None for parts in below)
    depth = 3 if has_splits else 2
    tops = sorted({parts[0] for parts in below})
    if has_splits:
        used: dict[int, str] = {}
        for (top,) in (parts for parts in folders if len(parts) == 1):
            role = _role(top)
            if role is None and top in tops:
                raise InvalidInputError(
                    f"{folder} must hold either splits or classes, but {top!r} is beside "
                    f"{next(t for t in tops if _role(t) is not None)!r}."
                )
            if role is not None and used.setdefault(role, top) != top:
                raise InvalidInputError(
                    f"{folder} must have one folder of {_WORDS[role]} images, but has "
                    f"{used[role]!r} and {top!r}."
                )
            if role is not None and top not in tops:
                raise InvalidInputError(f"{folder / top} must hold images, but holds none.")
        if TRAIN not in used:
            raise InvalidInputError(f"{folder} must have a folder 'train', but has {tops[0]!r}.")
    for parts in below:
        if len(parts) == 2 and (has_splits or all(_role(top) is not None for top in tops)):
            raise InvalidInputError(
                f"{folder / parts[0]} must hold a folder for each class, but holds images such as "
                f"{parts[1]!r} (`predict` takes images without a class)."
            )
        if len(parts) > depth:
            hint = f" Did you mean {folder / tops[0]}?" if len(tops) == 1 else ""
            raise InvalidInputError(
                f"images must lie in CLASS or SPLIT/CLASS folders of {folder}, but "
                f"{'/'.join(parts)!r} lies deeper.{hint}"
            )
    spelt: dict[int, dict[str, str]] = {}
    for parts in folders:
        role = _role(parts[0]) if has_splits else TRAIN
        if role is None or len(parts) != depth - 1:
            continue
        if not _plain(parts[-1]) or not parts[-1].isprintable():
            raise InvalidInputError(f"{folder}: {parts[-1]!a} must be a printable name.")
        first = spelt.setdefault(role, {}).setdefault(_key(parts[-1]), parts[-1])
        if first != parts[-1]:
            raise InvalidInputError(
                f"{folder.joinpath(*parts[:-1])} must have one folder for each class, but "
                f"{first!r} and {parts[-1]!r} differ in case or spaces alone."
            )
    for role, names in spelt.items():
        for key, name in names.items():
            first = spelt[TRAIN].get(key, "")
            if not first:
                raise InvalidInputError(
                    f"every class must have training images, but {name!r} of the {_WORDS[role]} "
                    f"images in {folder} has none."
                )
            if _plain(first) != _plain(name):
                raise InvalidInputError(
                    f"{folder} must spell a class alike in all splits, but {first!r} of the "
                    f"training images is {name!r} of the {_WORDS[role]} images."
                )
    classes = tuple(sorted(_plain(name) for name in spelt[TRAIN].values()))
    if len(classes) < 2:
        raise InvalidInputError(
            f"there must be at least two classes, but {folder} has {classes[0]!r} alone."
        )
    return classes, below, [_ROLES[_key(p[0])] if has_splits else TRAIN for p in below]


def _split(
    folder: Path,
    classes: Sequence[str],
    keys: Sequence[str],
    labels: NDArray[np.int64],
    given: NDArray[np.int8],
    missing: Sequence[int],
    groups: NDArray[np.str_] | None,
) -> tuple[NDArray[np.int8], list[str]]:
    """The role of each image, and how the splits `missing` came about."""
    counts = np.bincount(labels[given == TRAIN], minlength=len(classes))
    fewest, least = classes[int(counts.argmin())], MIN_TRAIN + len(missing)
    if counts.min() < least:
        raise InvalidInputError(
            f"each class must have at least {least} {'' if len(missing) == 2 else 'training '}"
            f"images, but {fewest!r} in {folder} has {counts.min()}."
        )
    pool = np.flatnonzero(given == TRAIN)
    sizes = np.zeros((3, len(classes)), dtype=np.int64)
    for role in missing:
        sizes[role] = np.maximum(1, np.rint(_SHARES[role] * counts))
    sizes[TRAIN] = counts - sizes.sum(axis=0)
    roles, by = given.copy(), "its folders"
    if groups is not None:
        roles[pool] = by_group(groups[pool].tolist(), labels[pool], sizes)
        by = f"what --group-by finds ({len(np.unique(groups)):,} groups)"
    elif missing:
        roles[pool] = by_name([keys[i] for i in pool.tolist()], labels[pool], sizes)
        by = "the digest of CLASS/FILE"
    for role, word in _WORDS.items():
        counts = np.bincount(labels[roles == role], minlength=len(classes))
        if not counts.any() or role == TRAIN and counts.min() < MIN_TRAIN:
            fewest = f" of {classes[int(counts.argmin())]!r}" if counts.any() else ""
            raise InvalidInputError(
                f"the split of {folder} by {by} must leave enough {word} images{fewest}, but "
                f"leaves {counts.min()}."
            )
    words = " and ".join(_WORDS[role] for role in missing)
    note = f"No folder holds {words} images: {by} tells them apart."
    return roles, [note] if missing else []


def _groups(names: Sequence[str], pattern: str) -> list[str]:
    """What `pattern` finds in each name."""
    try:
        found = [re.search(pattern, name) for name in names]
    except re.error as error:
        raise InvalidInputError(
            f"--group-by must be a regular expression, but {pattern!r} is none: {error}."
        ) from None
    without = [name for name, match in zip(names, found, strict=True) if match is None]
    if without:
        raise InvalidInputError(
            f"--group-by {pattern!r} must find something in the CLASS/FILE of every image, but "
            f"finds nothing in {len(without):,} of {len(names):,}, such as {without[0]!r}."
        )
    matches = [match for match in found if match is not None]
    return [
        "/".join(m.group(i) or "" for i in range(1, m.re.groups + 1)) or m.group() for m in matches
    ]


def _role(name: str) -> int | None:
    """The split that a folder's name says."""
    return _ROLES.get(_key(name))


def _plain(name: str) -> str:
    """A name as every system writes it, without blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


def _key(name: str) -> str:
    """What names have in common that mean the same class."""
    return " ".join(_plain(name).casefold().replace("_", " ").split())

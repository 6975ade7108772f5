"""The official label files: labels.csv, and which photographs train, validate and test."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.datasets.prepared import CLASSES, N_FOLDS, TEST, TRAIN, VALID
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError

LABELS_NAME = "labels.csv"
_SUBSETS = (("train", TRAIN), ("val", VALID), ("test", TEST))
LABEL_FILES = (
    LABELS_NAME,
    *(f"{subset}_subset{fold}.csv" for subset, _ in _SUBSETS for fold in range(N_FOLDS)),
)
"""Names of the 16 files that `read_labels` needs."""


@dataclass(frozen=True)
class Labels:
    """What the label files say.

    Attributes:
        filenames: n names of photographs, in the order of labels.csv.
        labels: (n,) uint8, indices into `CLASSES`.
        folds: (5, n) uint8, 0 train, 1 validation, 2 test.
        disputed: Photographs that a subset file labels otherwise than labels.csv, which wins.
            The official files have one, 20170714-110407-3.jpg.
    """

    filenames: tuple[str, ...]
    labels: NDArray[np.uint8]
    folds: NDArray[np.uint8]
    disputed: tuple[str, ...]


def read_labels(directory: Path) -> Labels:
    """Return the content of the 16 label files in `directory`.

    Raises:
        NotFoundError: The directory or one of the files does not exist.
        InvalidInputError: A row is not of the required form, or the files contradict each other.
    """
    if not directory.is_dir():
        raise NotFoundError(f"the directory of the label files does not exist: {directory}.")
    position: dict[str, int] = {}
    values: list[int] = []
    path = directory / LABELS_NAME
    for row, name, label in _rows(path):
        if name in position:
            raise InvalidInputError(
                f"{path}, row {row}: every file name must occur once, but {name} is there twice."
            )
        position[name] = len(values)
        values.append(label)
    if not values:
        raise InvalidInputError(f"{path} must list at least one photograph, but lists none.")
    labels = np.array(values, dtype=np.uint8)
    disputed: set[str] = set()
    folds = np.stack(
        [_fold(directory, fold, position, labels, disputed) for fold in range(N_FOLDS)]
    )
    return Labels(tuple(position), labels, folds, tuple(sorted(disputed)))


def _fold(
    directory: Path,
    fold: int,
    position: dict[str, int],
    labels: NDArray[np.uint8],
    disputed: set[str],
) -> NDArray[np.uint8]:
    """(n,) uint8: the role of each photograph in one fold; adds to `disputed`."""
    unset = 255
    roles = np.full(len(position), unset, dtype=np.uint8)
    for subset, role in _SUBSETS:
        path = directory / f"{subset}_subset{fold}.csv"
        for row, name, label in _rows(path):
            index = position.get(name)
            if index is None:
                raise InvalidInputError(f"{path}, row {row}: {name} is not in {LABELS_NAME}.")
            if roles[index] != unset:
                raise InvalidInputError(
                    f"{path}, row {row}: a photograph must be in one subset of fold {fold}, but "
                    f"{name} is there twice."
                )
            roles[index] = role
            if label != labels[index]:
                disputed.add(name)
    without = np.flatnonzero(roles == unset)
    if len(without):
        raise InvalidInputError(
            f"every photograph of {directory / LABELS_NAME} must be in a subset of fold {fold}, "
            f"but {len(without):,} are in none, the first is {list(position)[without[0]]}."
        )
    return roles


def _rows(path: Path) -> Iterator[tuple[int, str, int]]:
    """Yield (row number, counted from 1 with the header, file name, label) of a label file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if [field.strip() for field in header[:2]] != ["Filename", "Label"]:
                raise InvalidInputError(
                    f"{path}: the columns must be Filename, Label, but are "
                    f"{', '.join(header)[:60] or 'missing'}."
                )
            for row, fields in enumerate(reader, start=2):
                if fields:
                    yield row, *_entry(path, row, fields)
    except FileNotFoundError:
        raise NotFoundError(f"the label file {path} does not exist.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path} is not a CSV file in UTF-8: {error}.") from None
    except OSError as error:
        raise DeepWeedsError(f"{path} cannot be read: {error.strerror or error}.") from None


def _entry(path: Path, row: int, fields: list[str]) -> tuple[str, int]:
    if len(fields) < 2:
        raise InvalidInputError(
            f"{path}, row {row}: Filename and Label are required, but the row is "
            f"{fields[0][:60]!r}."
        )
    name, label = fields[0].strip(), fields[1].strip()
    if not name or name in (".", "..") or not name.isprintable() or set(name) & set("/\\:"):
        raise InvalidInputError(
            f"{path}, row {row}: Filename must be the bare name of a file, but is {name[:60]!r}."
        )
    if not (label.isascii() and label.isdigit() and int(label[:9]) < len(CLASSES)):
        raise InvalidInputError(
            f"{path}, row {row}: Label must be a whole number from 0 to {len(CLASSES) - 1}, but "
            f"is {label[:60]!r}."
        )
    return name, int(label)

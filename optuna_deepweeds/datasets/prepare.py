"""From photographs and label files, downloaded or on disk, to the prepared file.

The official label files are labels.csv and, for each fold, which photographs train, validate and
test.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.datasets.dataset import SIDE, Progress
from optuna_deepweeds.datasets.download import download
from optuna_deepweeds.datasets.photographs import MAX_SIDE, Photographs, decode_all
from optuna_deepweeds.datasets.prepared import (
    CLASSES,
    N_FOLDS,
    N_IMAGES,
    PREPARED_NAME,
    Prepared,
    read_prepared,
    write_prepared,
)
from optuna_deepweeds.datasets.split import TEST, TRAIN, VALID
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError
from optuna_deepweeds.files import locked

_MAX_LABEL_BYTES = 4 * 2**20


LABELS_NAME = "labels.csv"
_SUBSETS = (("train", TRAIN), ("val", VALID), ("test", TEST))
LABEL_FILES = (
    LABELS_NAME,
    *(f"{subset}_subset{fold}.csv" for subset, _ in _SUBSETS for fold in range(N_FOLDS)),
)
"""Names of the 16 files that `read_labels` needs."""


@dataclass(frozen=True)
class Sources:
    """Addresses and checksums of one publication of DeepWeeds.

    Attributes:
        images: Addresses of images.zip, in the order in which they are tried.
        images_md5: Its MD5, as published beside it.
        images_bytes: A bound on its size: more is not downloaded.
        labels: Addresses that the name of a label file is appended to, likewise in order.
        labels_sha256: Name -> SHA-256 of each label file.
    """

    images: tuple[str, ...]
    images_md5: str
    images_bytes: int
    labels: tuple[str, ...]
    labels_sha256: Mapping[str, str] = field(default_factory=dict)


OFFICIAL = Sources(
    images=(
        "https://zenodo.org/records/7939060/files/images.zip?download=1",
        "https://drive.usercontent.google.com/download"
        "?id=1xnK3B6K6KekDI55vwJ0vnc2IGoDga9cj&export=download&confirm=t",
    ),
    images_md5="b7b30f96d466fba86016aa5a26606e0f",
    images_bytes=600 * 2**20,
    labels=(
        "https://raw.githubusercontent.com/AlexOlsen/DeepWeeds/master/labels/",
        "https://github.com/AlexOlsen/DeepWeeds/raw/master/labels/",
    ),
    labels_sha256={
        "labels.csv": "6fb95b89fd9d384f94e185a5cab6c5da7c987649399c90618ecc60acfb0112eb",
        "train_subset0.csv": "a2e63f561a545837c8cabaa276a957ccf1293ec985c9d8fbc49d67b4fd5abdb2",
        "train_subset1.csv": "a7447a6c67852f79837eca790aac55f2e16b96e71d63a1d850ba5a4db57748b8",
        "train_subset2.csv": "7e27d63c1614ebbd6a57b3925403f999f70facbc2ffc04f1116f7f8688ebbd52",
        "train_subset3.csv": "fae89ae8d9b00a919a5b20d7eda4807a3400c040ec89df2ac3304a70c97ad24d",
        "train_subset4.csv": "e0c8011ad795638b85dc59d49d1c9e7af4b3843c780cebb3e3241188cf28380e",
        "val_subset0.csv": "1fa70a03a68def06c921a1dd7f0b53e96490f6dfad51d7d423bb145161ebc478",
        "val_subset1.csv": "0aa1f7d2140e20c14736029a37c3022ca14c37f9e135435d3c5bb790054c2e92",
        "val_subset2.csv": "5a5cc004ef3ec9f021fd46194519ab030b0c65606e3b9cd1f09fc465859289d8",
        "val_subset3.csv": "a50360be0955155e9dfeea9927230ffb8376f3a2b2a2e9f46fb6bf51c84cacd6",
        "val_subset4.csv": "d28432a8a3943a23d1d8539a72a6b78ee67f6ec4179830cec071e03fdb749ce3",
        "test_subset0.csv": "fb212793b988bc0455aae2e48cb9eb3168014c2f47fbdb93f5f1e284e0974f75",
        "test_subset1.csv": "1ffc3df9be7e312691a4d3c748deeabd846f339e2a9f2a084f84b16beca2f6e9",
        "test_subset2.csv": "c4d0c72bd3bf6ce3cf4b7528ea125be998e881cd4234dc80532e4217aeccd2c1",
        "test_subset3.csv": "8f4cd1c842b12d4282a865d83a7f960745c1b67d221c32a75ca3d0c99f0af471",
        "test_subset4.csv": "0efa3be49a357d83f60f5c9164350503e92b357a72d0ff461f865e47f6f91171",
    },
)


@dataclass(frozen=True)
class Outcome:
    """What `prepare` did.

    Attributes:
        path: The prepared file.
        n_images: Images in it.
        n_absent: Photographs with a label that are not there and were left out.
        disputed: Photographs that the label files label in two ways; labels.csv wins.
        existed: The file was there and sound, and nothing was done.
    """

    path: Path
    n_images: int
    n_absent: int = 0
    disputed: tuple[str, ...] = ()
    existed: bool = False


def prepare(
    data_dir: Path,
    *,
    images: Path | None = None,
    labels: Path | None = None,
    partial: bool = False,
    force: bool = False,
    sources: Sources = OFFICIAL,
    progress: Progress | None = None,
) -> Outcome:
    """Make the prepared file in `data_dir`.

    Args:
        data_dir: The data directory; made if need be. Downloads stay in its `downloads`.
        images: A directory or zip archive of the photographs; downloaded if None.
        labels: A directory of the label files; downloaded if None.
        partial: Leave out photographs that are absent, instead of refusing.
        force: Make the file again although a sound and complete one is there.
        sources: Where to download from.
        progress: Called now and then.

    Raises:
        NotFoundError: `images` or `labels` does not exist or lacks files.
        InvalidInputError: A label file, the archive or a photograph is damaged.
        DeepWeedsError: A download failed, or something cannot be read or written.
    """
    if not force:
        existing = _existing(data_dir, partial)
        if existing is not None:
            return existing
    # A second process would write the same half-finished download.
    with locked(data_dir / ".prepare.lock", timeout=0) as is_alone:
        if not is_alone:
            raise DeepWeedsError(f"another process is preparing {data_dir} just now.")
        return _make(data_dir, images, labels, partial, sources, progress)


def _make(
    data_dir: Path,
    images: Path | None,
    labels: Path | None,
    partial: bool,
    sources: Sources,
    progress: Progress | None,
) -> Outcome:
    def tell(what: str, unit: str) -> Callable[[int, int | None], None]:
        def report(done: int, total: int | None) -> None:
            if progress is not None:
                progress(what, done, total, unit)

        return report

    downloads = data_dir / "downloads"
    if labels is None:
        labels = downloads / "labels"
        for name in LABEL_FILES:
            download(
                [base + name for base in sources.labels],
                labels / name,
                algorithm="sha256",
                checksum=sources.labels_sha256[name],
                max_bytes=_MAX_LABEL_BYTES,
                progress=tell(f"downloading {name}", "B"),
            )
    known = read_labels(labels)
    if images is None:
        images = download(
            sources.images,
            downloads / "images.zip",
            algorithm="md5",
            checksum=sources.images_md5,
            max_bytes=sources.images_bytes,
            progress=tell("downloading images.zip", "B"),
        )
    with Photographs(images, known.filenames) as photographs:
        present = np.array([name in photographs for name in known.filenames])
        absent = [known.filenames[i] for i in np.flatnonzero(~present)]
        if absent and (not partial or not present.any()):
            raise NotFoundError(_absent_message(images, absent, len(present)))
        names = [known.filenames[i] for i in np.flatnonzero(present)]
        pixels, damaged = decode_all(
            lambda i: photographs.read(names[i]),
            len(names),
            bounds=(SIDE, MAX_SIDE),
            progress=tell("preparing", "images"),
        )
    if damaged:
        listed = ", ".join(f"{names[i]} ({damaged[i]})" for i in sorted(damaged)[:3])
        more = f" and {len(damaged) - 3:,} more" if len(damaged) > 3 else ""
        raise InvalidInputError(
            f"{len(damaged):,} of {len(names):,} photographs in {images} cannot be used: "
            f"{listed}{more}; get them again."
        )
    prepared = Prepared(
        images=pixels,
        labels=known.labels[present],
        filenames=np.array(names),
        folds=known.folds[:, present],
    )
    path = write_prepared(data_dir, prepared)
    return Outcome(path, len(names), len(absent), known.disputed)


def _existing(data_dir: Path, partial: bool) -> Outcome | None:
    """The file that is there already, if it is sound and as complete as asked for."""
    try:
        n_images = len(read_prepared(data_dir).labels)
    except (NotFoundError, InvalidInputError):
        return None
    if n_images < N_IMAGES and not partial:
        return None
    return Outcome(data_dir / PREPARED_NAME, n_images, existed=True)


def _absent_message(images: Path, absent: list[str], n_labels: int) -> str:
    listed = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
    if len(absent) == n_labels:
        return f"{images} holds none of the {n_labels:,} photographs that have a label: {listed}."
    return (
        f"{len(absent):,} of {n_labels:,} photographs that have a label are not in {images}: "
        f"{listed}; prepare the others alone with --partial."
    )


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

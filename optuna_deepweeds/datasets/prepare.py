"""From photographs and label files, downloaded or on disk, to the prepared file."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optuna_deepweeds.datasets.download import download
from optuna_deepweeds.datasets.labels import LABEL_FILES, read_labels
from optuna_deepweeds.datasets.photographs import open_photographs, reduce_photographs
from optuna_deepweeds.datasets.prepared import (
    N_IMAGES,
    PREPARED_NAME,
    Prepared,
    read_prepared,
    write_prepared,
)
from optuna_deepweeds.datasets.sources import OFFICIAL, Sources
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError

Progress = Callable[[str, int, int | None, str], None]
"""Called with (what is being done, units done, units in all or None, unit: "B" or "images")."""

_MAX_LABEL_BYTES = 4 * 2**20


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
    with _alone(data_dir):
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
    with open_photographs(images, known.filenames) as photographs:
        present = np.array([name in photographs for name in known.filenames])
        absent = [known.filenames[i] for i in np.flatnonzero(~present)]
        if absent and (not partial or not present.any()):
            raise NotFoundError(_absent_message(images, absent, len(present)))
        names = [known.filenames[i] for i in np.flatnonzero(present)]
        pixels = reduce_photographs(photographs, names, progress=tell("preparing", "images"))
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


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """Keep a second `prepare` out: both would write the same half-finished download."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = (data_dir / ".prepare.lock").open("w")
    except OSError as error:
        raise DeepWeedsError(f"{data_dir} cannot be written: {error.strerror or error}.") from None
    with file:
        try:
            # The system gives the lock back whenever the process ends, however it ends.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DeepWeedsError(f"another process is preparing {data_dir} just now.") from None
        yield


def _absent_message(images: Path, absent: list[str], n_labels: int) -> str:
    listed = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
    if len(absent) == n_labels:
        return f"{images} holds none of the {n_labels:,} photographs that have a label: {listed}."
    return (
        f"{len(absent):,} of {n_labels:,} photographs that have a label are not in {images}: "
        f"{listed}; prepare the others alone with --partial."
    )

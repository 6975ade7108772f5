"""Decoded images of a folder, kept in the user's cache directory.

They are kept under a name made of the place, size and times of every file: whatever changes is
decoded anew, and takes the place of what was kept of that folder at that size.
"""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.datasets.dataset import Progress
from optuna_deepweeds.datasets.location import cache_dir
from optuna_deepweeds.datasets.photographs import decode_all
from optuna_deepweeds.datasets.split import digest
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.files import locked, whole

logger = logging.getLogger(__name__)

_Decoded = tuple[NDArray[np.uint8], dict[int, str]]


def decoded(
    folder: Path, files: Sequence[str], size: int, progress: Progress | None = None
) -> _Decoded:
    """Return the images `files` of `folder`, as `photographs.decode_all` does.

    Raises:
        InvalidInputError: They do not fit into the memory.
    """
    needed, memory = 3 * size**2 * len(files), _memory()
    if needed > memory / 3:  # Training copies its part.
        raise InvalidInputError(
            f"images must fit into a third of the memory ({memory / 3 / 2**30:.1f} GiB), but "
            f"{len(files):,} of {size}x{size} take {needed / 2**30:.1f}."
        )
    place = cache_dir() / "folders"
    of_folder = f"{digest(os.path.realpath(folder))[:16]}-{size}"
    state = digest(ascii([(file, _stamp(folder / file)) for file in files]))
    kept = place / f"{of_folder}-{state[:32]}.npz"
    if (known := _read(kept)) is not None:
        return known
    with ExitStack() as stack:
        # Several workers that start at once decode once. Without a place to write, each does.
        with suppress(InvalidInputError):
            stack.enter_context(locked(place / f"{of_folder}.lock"))
        if (known := _read(kept)) is not None:
            return known

        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(f"reading {folder}", done, total, "images")

        images, damaged = decode_all(
            lambda i: folder / files[i], len(files), side=size, progress=tell
        )
        try:
            with whole(kept) as part, part.open("wb") as stream:
                reasons = np.array(list(damaged.values()), dtype=np.str_)
                np.savez(stream, images=images, damaged=list(damaged), reasons=reasons)
        except InvalidInputError as error:
            logger.warning("%s Without it images are read anew each time.", error)
        # Of earlier states of the folder, and of killed processes.
        for old in (*place.glob(f"{of_folder}-*"), *place.glob(f".{of_folder}-*")):
            if old != kept:
                old.unlink(missing_ok=True)
    return images, damaged


def _read(file: Path) -> _Decoded | None:
    """What was kept in `file`; None if it is absent or unusable, as after a full disk."""
    try:
        # Opened here, because np.load leaves a file that it cannot read open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            numbers, reasons = content["damaged"].tolist(), content["reasons"].tolist()
            return content["images"], {int(k): v for k, v in zip(numbers, reasons, strict=True)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _stamp(path: Path) -> tuple[int, int, int]:
    """Size and times of a file; the time of its last change of any kind cannot be set back."""
    try:
        stat = path.stat()
    except OSError:  # A link to nowhere: decoding tells.
        return 0, 0, 0
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

"""Original photographs, in a directory or a zip archive, and their reduction to 32x32.

An archive is read in place and never unpacked: what its entries are called cannot reach the disk.
Entries that try to are refused all the same, because such an archive is not DeepWeeds.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from optuna_deepweeds.datasets.prepared import SIDE
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError

MAX_FILE_BYTES = 16 * 2**20
"""Largest photograph file that is read; the official ones have about 30 kB."""
MAX_SIDE = 4096
"""Largest width and height, in pixels; the official ones have 256."""
MAX_ENTRIES = 200_000
_BATCH = 64


class Photographs(Protocol):
    """A place that holds photographs by bare file name."""

    path: Path

    def __enter__(self) -> Photographs: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def __contains__(self, name: str) -> bool: ...

    def __len__(self) -> int: ...

    def read(self, name: str) -> bytes:
        """Return the bytes of one photograph.

        Raises:
            _DamagedError: They cannot be had.
        """
        ...


class _DamagedError(Exception):
    """One photograph cannot be used; the message says why."""


def open_photographs(path: Path, wanted: Iterable[str]) -> Photographs:
    """Open a directory or a zip archive of photographs, to be used in a `with` statement.

    Sub-directories are searched too. Only the names `wanted` are looked for.

    Raises:
        NotFoundError: Nothing is there.
        InvalidInputError: It is neither a directory nor a sound archive, or a wanted photograph
            is there twice.
    """
    if path.is_dir():
        return _Directory(path, frozenset(wanted))
    if not path.exists():
        raise NotFoundError(f"the directory or zip archive of the images does not exist: {path}.")
    return _Archive(path, frozenset(wanted))


class _Directory:
    def __init__(self, path: Path, wanted: frozenset[str]) -> None:
        self.path = path
        self._files: dict[str, Path] = {}
        for folder, _, names in os.walk(path):
            for name in wanted.intersection(names):
                found = Path(folder, name)
                if name in self._files:
                    raise InvalidInputError(
                        f"{path} must hold each photograph once, but {name} is there as "
                        f"{self._files[name].relative_to(path)} and {found.relative_to(path)}."
                    )
                self._files[name] = found

    def __enter__(self) -> _Directory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __len__(self) -> int:
        return len(self._files)

    def read(self, name: str) -> bytes:
        try:
            with self._files[name].open("rb") as file:
                return _limited(file.read(MAX_FILE_BYTES + 1))
        except OSError as error:
            raise _DamagedError(error.strerror or str(error)) from None


class _Archive:
    def __init__(self, path: Path, wanted: frozenset[str]) -> None:
        self.path = path
        self._entries: dict[str, zipfile.ZipInfo] = {}
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
            raise InvalidInputError(
                f"{path} is not a complete zip archive ({str(error).rstrip('.')})."
            ) from None
        except OSError as error:
            raise DeepWeedsError(f"{path} cannot be read: {error.strerror or error}.") from None
        try:
            entries = self._zip.infolist()
            if len(entries) > MAX_ENTRIES:
                raise InvalidInputError(
                    f"{path} must hold at most {MAX_ENTRIES:,} entries, but has {len(entries):,}."
                )
            for entry in entries:
                self._add(entry, wanted)
        except BaseException:
            self._zip.close()
            raise

    def _add(self, entry: zipfile.ZipInfo, wanted: frozenset[str]) -> None:
        # `orig_filename` is the name as written, before zipfile cuts it at a null byte.
        written = entry.orig_filename
        place = PurePosixPath(written.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in written or "\0" in written:
            raise InvalidInputError(
                f"{self.path} must hold plain relative paths, but one entry is {written!r}; this "
                "is not the DeepWeeds archive."
            )
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InvalidInputError(
                f"{self.path} must hold plain files, but {written!r} is a symbolic link."
            )
        name = place.name
        if entry.is_dir() or name not in wanted or "__MACOSX" in place.parts:
            return
        if entry.flag_bits & 1:
            raise InvalidInputError(f"{self.path} must not be encrypted, but {written!r} is.")
        if entry.file_size > MAX_FILE_BYTES:
            raise InvalidInputError(
                f"{self.path}: a photograph must have at most {MAX_FILE_BYTES:,} bytes, but "
                f"{written!r} unpacks to {entry.file_size:,}."
            )
        if name in self._entries:
            raise InvalidInputError(
                f"{self.path} must hold each photograph once, but {name} is there as "
                f"{self._entries[name].filename} and {entry.filename}."
            )
        self._entries[name] = entry

    def __enter__(self) -> _Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, name: str) -> bytes:
        try:
            # Bounded whatever the entry's header claims.
            with self._zip.open(self._entries[name]) as file:
                return _limited(file.read(MAX_FILE_BYTES + 1))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise _DamagedError(str(error).rstrip(".") or type(error).__name__) from None


def _limited(content: bytes) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise _DamagedError(f"larger than {MAX_FILE_BYTES:,} bytes")
    return content


def reduce_photographs(
    photographs: Photographs,
    names: list[str],
    *,
    progress: Callable[[int, int], None] | None = None,
    n_threads: int | None = None,
) -> NDArray[np.uint8]:
    """Return the photographs `names` at 32x32, (n, 32, 32, 3) uint8 RGB.

    Memory is the result and a few photographs for each thread (PIL decodes outside the
    interpreter's lock).

    Args:
        photographs: Where they lie; every name must be in it.
        names: n file names.
        progress: Called now and then with (photographs done, n).
        n_threads: Threads that decode; a few by default.

    Raises:
        InvalidInputError: Some photographs are damaged; the message names the first ones.
    """
    images = np.empty((len(names), SIDE, SIDE, 3), dtype=np.uint8)

    def reduce_batch(start: int) -> list[tuple[str, str]]:
        damaged = []
        for index in range(start, min(start + _BATCH, len(names))):
            try:
                images[index] = reduce_image(photographs.read(names[index]))
            except _DamagedError as error:
                damaged.append((names[index], str(error)))
        return damaged

    damaged: list[tuple[str, str]] = []
    executor = ThreadPoolExecutor(n_threads or min(4, os.cpu_count() or 1))
    try:
        batches = [executor.submit(reduce_batch, s) for s in range(0, len(names), _BATCH)]
        for done, batch in enumerate(as_completed(batches), start=1):
            damaged += batch.result()
            if progress is not None:
                progress(min(done * _BATCH, len(names)), len(names))
    finally:
        executor.shutdown(cancel_futures=True)
    if damaged:
        listed = ", ".join(f"{name} ({reason})" for name, reason in sorted(damaged)[:3])
        more = f" and {len(damaged) - 3:,} more" if len(damaged) > 3 else ""
        raise InvalidInputError(
            f"{len(damaged):,} of {len(names):,} photographs in {photographs.path} cannot be "
            f"used: {listed}{more}; get them again."
        )
    return images


def reduce_image(content: bytes) -> NDArray[np.uint8]:
    """Return the photograph in the file `content` at 32x32, (32, 32, 3) uint8 RGB.

    Bilinear with antialiasing, as PIL resizes; torchvision does the same on PIL images.

    Raises:
        _DamagedError: It is no sound JPEG or PNG file, or its size is out of bounds.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            # Known from the header: checked before any pixel is decoded.
            if not all(SIDE <= side <= MAX_SIDE for side in image.size):
                width, height = image.size
                raise _DamagedError(
                    f"{width}x{height}, but sides must be {SIDE} to {MAX_SIDE} pixels"
                )
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            return np.asarray(small)
    except Image.UnidentifiedImageError:
        raise _DamagedError("no JPEG or PNG image") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise _DamagedError((str(error) or type(error).__name__).splitlines()[0]) from None

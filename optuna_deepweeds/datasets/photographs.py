"""Photographs: found in folders and archives, and decoded; nothing else in the package decodes.

A photograph of any size is turned upright (EXIF), cut to its central square and reduced with
pillow's antialiased bilinear filter. torchvision 0.29 decodes the original DeepWeeds photographs
to the same pixels, but its resizing of tensors rounds 0.05 % of the values otherwise, and it reads
neither TIFF nor BMP, nor a JPEG at reduced size: pillow does all of it.

An archive is read in place and never unpacked: what its entries are called cannot reach the disk.
Entries that try to are refused all the same, because such an archive is not DeepWeeds.
"""

from __future__ import annotations

import glob
import io
import os
import stat
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from optuna_deepweeds.datasets.dataset import SIDE
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError

MAX_FILE_BYTES = 16 * 2**20
"""Largest file that is read from `Photographs`; the official ones have about 30 kB."""
MAX_SIDE = 4096
"""Largest width and height of a photograph in an archive; the official ones have 256."""
_MAX_ENTRIES = 200_000
_BATCH = 64
# A JPEG may be decoded at a reduced size down to this many pixels a side, the size of the
# original DeepWeeds photographs: large photographs are read several times faster.
_DECODED_SIDE = 256
_DEPTHS = (8, 10, 12, 16)


class DamagedPhotographError(Exception):
    """One photograph cannot be used; the message says why."""


def decode(
    source: Path | bytes, side: int = SIDE, *, bounds: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Return a photograph as a network sees it, (side, side, 3) uint8 RGB.

    What is transparent becomes white. Grey values of more than 8 bits are scaled by the depth that
    they use, floats from 0 to 1.

    Args:
        source: Its file, or that file's content.
        side: Of the result.
        bounds: Smallest and largest side that it may have; any by default.

    Raises:
        DamagedPhotographError: It is no sound photograph, or its size is out of bounds.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.format == "EPS":  # A program, which pillow has Ghostscript run.
                raise Image.UnidentifiedImageError
            # Known from the header: checked before any pixel is decoded.
            if bounds is not None and not all(bounds[0] <= s <= bounds[1] for s in image.size):
                width, height = image.size
                raise DamagedPhotographError(
                    f"{width}x{height}, but sides must be {bounds[0]} to {bounds[1]} pixels"
                )
            image.draft("RGB", (max(side, _DECODED_SIDE),) * 2)
            is_deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
            upright = _rgb(ImageOps.exif_transpose(image), is_deep)
            return np.asarray(ImageOps.fit(upright, (side, side), Image.Resampling.BILINEAR))
    except DamagedPhotographError:
        raise
    except Image.UnidentifiedImageError:
        raise DamagedPhotographError("its format is unknown") from None
    except Exception as error:
        # Damaged bytes make pillow's many readers raise nearly anything.
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DamagedPhotographError(text.splitlines()[0].rstrip(".")) from None


def _rgb(image: Image.Image, is_deep: bool) -> Image.Image:
    """`image` in RGB with 8 bits; `is_deep` tells that its file has 16."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        low, high = float(values.min()), float(values.max())
        if image.mode == "F":
            limit = 1.0
        else:
            limit = 2.0 ** next((d for d in _DEPTHS if high < 2**d), 0) - 1
        if not 0 <= low <= high <= limit:
            rule = "floats must be 0 to 1" if image.mode == "F" else "values must have 16 bits"
            raise DamagedPhotographError(f"its {rule}, but go from {low:g} to {high:g}")
        return Image.fromarray((values * (255 / limit)).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        background = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(background, layer).convert("RGB")
    # Of 16 bits a colour pillow keeps the upper 8: hardly any are left of a depth of 12.
    if is_deep and 0 < int(np.asarray(image.convert("RGB")).max()) < 16:
        raise DamagedPhotographError(
            "its colours must use the 16 bits of the file, but use 12 or fewer; convert it to 8"
        )
    return image.convert("RGB")


def decode_all(
    sources: Callable[[int], Path | bytes],
    n: int,
    *,
    side: int = SIDE,
    bounds: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode photographs, several at a time.

    Memory is the result and a few photographs for each thread (pillow decodes outside the
    interpreter's lock).

    Args:
        sources: Gives photograph 0 to n - 1 as to `decode`; may raise as that does.
        n: Number of photographs.
        side: As for `decode`.
        bounds: As for `decode`.
        progress: Called now and then with (photographs done, n).

    Returns:
        (n, side, side, 3) uint8, and the reason for each that cannot be used, by its number.
    """
    images = np.zeros((n, side, side, 3), dtype=np.uint8)

    def decode_batch(start: int) -> dict[int, str]:
        damaged = {}
        for index in range(start, min(start + _BATCH, n)):
            try:
                images[index] = decode(sources(index), side, bounds=bounds)
            except DamagedPhotographError as error:
                damaged[index] = str(error)
        return damaged

    damaged: dict[int, str] = {}
    with warnings.catch_warnings():
        # Of odd metadata and more than 89 megapixels; from twice that on it is an error.
        warnings.simplefilter("ignore")
        executor = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        try:
            batches = [executor.submit(decode_batch, start) for start in range(0, n, _BATCH)]
            for done, batch in enumerate(as_completed(batches), start=1):
                damaged |= batch.result()
                if progress is not None:
                    progress(min(done * _BATCH, n), n)
        finally:
            executor.shutdown(cancel_futures=True)
    return images, damaged


def is_photograph(name: str) -> bool:
    """Whether a file is one that can be decoded, by its suffix; hidden files are none."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in Image.registered_extensions() and not name.startswith((".", "__"))


def find_photographs(paths: Iterable[Path]) -> list[Path]:
    """The files of `paths`, folders replaced by the photographs in them and their subfolders.

    In the given order, a folder's files by name. A path that does not exist may be a pattern such
    as `photos/**/*.jpg`.

    Raises:
        NotFoundError: If a path does not exist, or a pattern fits none.
        InvalidInputError: If a folder has no photograph.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            fitting = sorted(glob.glob(str(path), recursive=True))
            if not fitting:
                raise NotFoundError(f"no file or folder {path}.")
            found += [Path(name) for name in fitting if os.path.isfile(name)]
            continue
        inside = [path]
        if path.is_dir():
            files = sorted(path.rglob("*"))
            inside = [file for file in files if is_photograph(file.name) and file.is_file()]
        if not inside:
            raise InvalidInputError(
                f"a folder must have at least one photograph, but {path} has none."
            )
        found += inside
    return found


class Photographs:
    """The photographs `wanted`, by bare file name, in a directory or a zip archive.

    To be used in a `with` statement. Sub-directories are searched too.

    Raises:
        NotFoundError: Nothing is at `path`.
        InvalidInputError: It is neither a directory nor a sound archive, or a wanted photograph
            is there twice.
    """

    def __init__(self, path: Path, wanted: Iterable[str]) -> None:
        self.path = path
        self._wanted = frozenset(wanted)
        self._places: dict[str, Path | zipfile.ZipInfo] = {}
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            for folder, _, names in os.walk(path):
                for name in self._wanted.intersection(names):
                    self._add(name, Path(folder, name))
            return
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise NotFoundError(
                f"the directory or zip archive of the images does not exist: {path}."
            ) from None
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
            raise InvalidInputError(
                f"{path} is not a complete zip archive ({str(error).rstrip('.')})."
            ) from None
        except OSError as error:
            raise DeepWeedsError(f"{path} cannot be read: {error.strerror or error}.") from None
        try:
            self._add_entries(self._zip.infolist())
        except BaseException:
            self._zip.close()
            raise

    def _add(self, name: str, place: Path | zipfile.ZipInfo) -> None:
        first = self._places.setdefault(name, place)
        if first is not place:
            there, again = (
                p.relative_to(self.path) if isinstance(p, Path) else p.filename
                for p in (first, place)
            )
            raise InvalidInputError(
                f"{self.path} must hold each photograph once, but {name} is there as {there} and "
                f"{again}."
            )

    def _add_entries(self, entries: list[zipfile.ZipInfo]) -> None:
        if len(entries) > _MAX_ENTRIES:
            raise InvalidInputError(
                f"{self.path} must hold at most {_MAX_ENTRIES:,} entries, but has "
                f"{len(entries):,}."
            )
        for entry in entries:
            # `orig_filename` is the name as written, before zipfile cuts it at a null byte.
            written = entry.orig_filename
            place = PurePosixPath(written.replace("\\", "/"))
            if place.is_absolute() or ".." in place.parts or ":" in written or "\0" in written:
                raise InvalidInputError(
                    f"{self.path} must hold plain relative paths, but one entry is {written!r}; "
                    "this is not the DeepWeeds archive."
                )
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise InvalidInputError(
                    f"{self.path} must hold plain files, but {written!r} is a symbolic link."
                )
            is_wanted = place.name in self._wanted and not entry.is_dir()
            if not is_wanted or "__MACOSX" in place.parts:
                continue
            if entry.flag_bits & 1:
                raise InvalidInputError(f"{self.path} must not be encrypted, but {written!r} is.")
            if entry.file_size > MAX_FILE_BYTES:
                raise InvalidInputError(
                    f"{self.path}: a photograph must have at most {MAX_FILE_BYTES:,} bytes, but "
                    f"{written!r} unpacks to {entry.file_size:,}."
                )
            self._add(place.name, entry)

    def __enter__(self) -> Photographs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._zip is not None:
            self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def read(self, name: str) -> bytes:
        """The bytes of one photograph.

        Raises:
            DamagedPhotographError: They cannot be had, or are too many.
        """
        place = self._places[name]
        try:
            if isinstance(place, Path):
                opened: IO[bytes] = place.open("rb")
            else:
                assert self._zip is not None
                opened = self._zip.open(place)
            with opened as file:
                # Bounded whatever the entry's header claims.
                content: bytes = file.read(MAX_FILE_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DamagedPhotographError(text.rstrip(".")) from None
        if len(content) > MAX_FILE_BYTES:
            raise DamagedPhotographError(f"larger than {MAX_FILE_BYTES:,} bytes")
        return content

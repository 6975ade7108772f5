"""Photographs in, classes and probabilities out.

A photograph of any size is turned upright (EXIF), cut to its central square and reduced to the
network's 32x32 pixels with the antialiased bilinear filter that the data sets were made with.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.training.networks import IMAGE_SIZE
from optuna_deepweeds.training.trained import TrainedNetwork

# A JPEG may be decoded at a reduced size down to this many pixels a side, the size of the
# original DeepWeeds photographs: large photographs are read several times faster.
_DECODED_SIZE = 256


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one photograph.

    Attributes:
        path: The file.
        top: (class, probability), most probable first.
    """

    path: Path
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Unreadable:
    """A file that is no photograph, and why."""

    path: Path
    reason: str


def find_photographs(paths: Iterable[Path]) -> list[Path]:
    """The files of `paths`, folders replaced by the photographs in them and their subfolders.

    In the given order, a folder's files by name; which files of a folder are photographs is told
    by their suffix, and hidden files are left out.

    Raises:
        NotFoundError: If a path does not exist.
        InvalidInputError: If a folder has no photograph.
    """
    suffixes = set(Image.registered_extensions())
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"no file or folder {path}.")
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
        )
        if not inside:
            raise InvalidInputError(
                f"a folder must have at least one photograph, but {path} has none."
            )
        found += inside
    return found


def read_photograph(path: Path) -> NDArray[np.uint8]:
    """The photograph as the network sees it, (32, 32, 3) uint8 RGB.

    Raises:
        InvalidInputError: If the file is no photograph, is damaged or cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # Photographs of more than 89 megapixels exist; from twice that on it is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.draft("RGB", (_DECODED_SIZE, _DECODED_SIZE))
                upright = ImageOps.exif_transpose(image)
                small = ImageOps.fit(
                    _rgb(upright), (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR
                )
    except Image.UnidentifiedImageError:
        raise InvalidInputError(
            f"{path} must be a photograph, but its format is unknown."
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise InvalidInputError(f"{path} must be a readable photograph, but: {reason}.") from None
    return np.asarray(small, dtype=np.uint8)


def predict_photographs(
    network: TrainedNetwork,
    paths: Sequence[Path],
    *,
    n_top: int = 3,
    device: str | None = None,
) -> Iterator[Prediction | Unreadable]:
    """Classify the photographs at `paths` in one batched pass, in their order.

    Raises:
        InvalidInputError: If `n_top` is below 1.
    """
    if n_top < 1:
        raise InvalidInputError(f"`n_top >= 1` must hold, but got n_top={n_top}.")
    read: list[NDArray[np.uint8] | str] = []
    for path in paths:
        try:
            read.append(read_photograph(path))
        except InvalidInputError as error:
            read.append(str(error))
    images = [image for image in read if not isinstance(image, str)]
    batch = np.stack(images) if images else np.empty((0, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    rows = iter(network.predict_proba(batch, device=device))
    for path, image in zip(paths, read, strict=True):
        if isinstance(image, str):
            yield Unreadable(path, image)
        else:
            row = next(rows)
            best = np.argsort(-row, kind="stable")[:n_top]
            yield Prediction(path, tuple((network.classes[i], float(row[i])) for i in best))


def _rgb(image: Image.Image) -> Image.Image:
    """`image` in RGB; what is transparent becomes white, 16 bits become 8."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        return Image.fromarray((values / 257.0).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        background = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(background, layer).convert("RGB")
    return image.convert("RGB")

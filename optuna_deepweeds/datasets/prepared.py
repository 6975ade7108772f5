"""The prepared file: every DeepWeeds image at 32x32 with its label and official folds.

| array       | shape          | dtype | content                                       |
|-------------|----------------|-------|-----------------------------------------------|
| `images`    | (n, 32, 32, 3) | uint8 | RGB, in the order of labels.csv               |
| `labels`    | (n,)           | uint8 | index into `CLASSES`                          |
| `filenames` | (n,)           | str   | name of the photograph, unique                |
| `folds`     | (5, n)         | uint8 | 0 train, 1 validation, 2 test, for each fold  |

n is 17,509, or less in a file that was prepared with `--partial`.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.datasets.dataset import SIDE
from optuna_deepweeds.datasets.split import TEST
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError
from optuna_deepweeds.files import whole

PREPARED_NAME = "deepweeds32.npz"
N_IMAGES = 17_509
N_FOLDS = 5
CLASSES = (
    "Chinee apple",
    "Lantana",
    "Parkinsonia",
    "Parthenium",
    "Prickly acacia",
    "Rubber vine",
    "Siam weed",
    "Snake weed",
    "Negative",
)

_REMAKE = "remake it with `optuna-deepweeds data prepare`"


@dataclass(frozen=True)
class Prepared:
    """The content of a prepared file; shapes and values as the module's table says."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    filenames: NDArray[np.str_]
    folds: NDArray[np.uint8]

    def problem(self) -> str | None:
        """Tell which rule of the module's table is broken, or None if none is."""
        if self.images.dtype != np.uint8 or self.images.shape[1:] != (SIDE, SIDE, 3):
            return (
                f"`images` must be uint8 of shape (n, {SIDE}, {SIDE}, 3), "
                f"but is {self.images.dtype} of shape {self.images.shape}"
            )
        n = len(self.images)
        if n == 0:
            return "`images` must hold at least one image, but is empty"
        expected = {
            "labels": (self.labels, (n,), "u"),
            "filenames": (self.filenames, (n,), "U"),
            "folds": (self.folds, (N_FOLDS, n), "u"),
        }
        for name, (array, shape, kind) in expected.items():
            if array.shape != shape:
                return f"`{name}` must have the shape {shape}, but has {array.shape}"
            if array.dtype.kind != kind or (kind == "u" and array.dtype != np.uint8):
                wanted = "uint8" if kind == "u" else "str"
                return f"`{name}` must be of type {wanted}, but is {array.dtype}"
        if self.labels.max() >= len(CLASSES):
            return f"`labels` must be below {len(CLASSES)}, but one is {self.labels.max()}"
        if self.folds.max() > TEST:
            return f"`folds` must be 0, 1 or 2, but one is {self.folds.max()}"
        if len(np.unique(self.filenames)) != n:
            return "`filenames` must be unique, but some occur twice"
        return None


def read_prepared(data_dir: Path) -> Prepared:
    """Return the content of the prepared file in `data_dir`, checked.

    Raises:
        NotFoundError: There is no prepared file.
        InvalidInputError: The file is damaged or has not the prepared form.
        DeepWeedsError: The system refuses to read it.
    """
    path = data_dir / PREPARED_NAME
    try:
        # Opened here, because np.load leaves a file that it cannot read open.
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InvalidInputError(f"{path} is not an .npz archive; {_REMAKE}.")
            prepared = Prepared(**{field.name: file[field.name] for field in fields(Prepared)})
    except FileNotFoundError:
        raise NotFoundError(
            f"DeepWeeds is not in {data_dir} (no {PREPARED_NAME}): get it with "
            "`optuna-deepweeds data prepare`, or point to a directory that has it with "
            "`DEEPWEEDS_DATA=DIR`."
        ) from None
    except KeyError as error:
        name = str(error.args[0]).split(" ")[0] if error.args else "an array"
        raise InvalidInputError(
            f"the prepared file {path} must hold images, labels, filenames and folds, but "
            f"{name} is missing; {_REMAKE}."
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, MemoryError) as error:
        if isinstance(error, InvalidInputError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InvalidInputError(
            f"the prepared file {path} is damaged or incomplete ({reason}); {_REMAKE}."
        ) from None
    except OSError as error:
        raise DeepWeedsError(
            f"the prepared file {path} cannot be read: {error.strerror or error}."
        ) from None
    problem = prepared.problem()
    if problem is not None:
        raise InvalidInputError(f"in the prepared file {path} {problem}; {_REMAKE}.")
    return prepared


def write_prepared(data_dir: Path, prepared: Prepared) -> Path:
    """Write the prepared file into `data_dir`, whole or not at all, and return its path.

    Raises:
        ValueError: `prepared` breaks a rule of the prepared form.
        InvalidInputError: The directory cannot be written.
    """
    problem = prepared.problem()
    if problem is not None:
        raise ValueError(f"{problem}.")
    path = data_dir / PREPARED_NAME
    with whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **vars(prepared))
    return path

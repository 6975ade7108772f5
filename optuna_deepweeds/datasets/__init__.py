"""Data sets as arrays in memory with a split: DeepWeeds in two forms, and generated plants."""

from __future__ import annotations

from pathlib import Path

from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.datasets.deepweeds import load_balanced, load_deepweeds
from optuna_deepweeds.datasets.location import resolve_data_dir
from optuna_deepweeds.datasets.prepared import PREPARED_NAME
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.schema import choose

DATASETS: dict[str, str] = {
    "deepweeds": "17,509 photographs of 8 weeds and of neither, official folds",
    "deepweeds-balanced": "the 8 weeds of DeepWeeds, 1,000 photographs each",
    "demo": "generated pictures of 8 plants; needs no download",
}
"""Name -> what it is, in one line."""

DEMO_SIZES: dict[str, int] = {"train": 2000, "valid": 800, "test": 800}
"""Pictures in each split of `demo`."""

__all__ = ["DATASETS", "DEMO_SIZES", "Dataset", "load", "place", "resolve_data_dir"]


def load(name: str, *, data_dir: Path | None = None, fold: int = 0) -> Dataset:
    """Return the data set `name`, one of `DATASETS`.

    Args:
        name: Its name.
        data_dir: Where the prepared file lies; without it the variable DEEPWEEDS_DATA says so,
            and without that it is the user's cache directory. Not used by `demo`.
        fold: Which official fold of `deepweeds` (0 to 4). The others have one split only, 0.

    Raises:
        NotFoundError: Its images are not on this machine.
        InvalidInputError: No such data set or fold, or the prepared file is damaged.
    """
    choose("data set", name, DATASETS)
    if name == "deepweeds":
        return load_deepweeds(resolve_data_dir(data_dir), fold)
    if fold != 0:
        raise InvalidInputError(f"{name} has one split, fold 0, but fold {fold} was asked for.")
    if name == "deepweeds-balanced":
        return load_balanced(resolve_data_dir(data_dir))
    from optuna_deepweeds.datasets.demo import load_demo

    return load_demo(**DEMO_SIZES)


def place(name: str, data_dir: Path | None = None) -> Path | None:
    """Return the file that `load` would read, whether or not it exists; None for `demo`."""
    return None if name == "demo" else resolve_data_dir(data_dir) / PREPARED_NAME

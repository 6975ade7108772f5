"""Data sets as arrays in memory with a split: DeepWeeds in three forms, and generated plants."""

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
    "deepweeds-scenes": "the same weeds, no day and camera in two splits",
    "demo": "generated pictures of 8 plants; needs no download",
}
"""Name -> what it is, in one line."""

_SHARED = (
    "The test images share scenes with those trained on: {near} of them have one taken within "
    "10 s, and the class of the nearest in time alone is right for {right}. Accuracy on new "
    "scenes is lower: see deepweeds-scenes."
)
NOTES: dict[str, str] = {
    "deepweeds": _SHARED.format(near="59 %", right="96 %"),  # Of fold 0.
    "deepweeds-balanced": _SHARED.format(near="35 %", right="94 %"),
    "deepweeds-scenes": "No day and camera is in two splits, but days are: 24 % of the test "
    "images have one of another camera trained on taken within 10 s, and the class of the nearest "
    "in time alone is right for 61 %.",
}
"""Name -> what to know before its accuracies are believed."""

DEMO_SIZES: dict[str, int] = {"train": 2000, "valid": 800, "test": 800}
"""Pictures in each split of `demo`."""

__all__ = ["DATASETS", "DEMO_SIZES", "NOTES", "Dataset", "load", "place", "resolve_data_dir"]


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
    if name in ("deepweeds-balanced", "deepweeds-scenes"):
        return load_balanced(resolve_data_dir(data_dir), by_scene=name == "deepweeds-scenes")
    from optuna_deepweeds.datasets.demo import load_demo

    return load_demo(**DEMO_SIZES)


def place(name: str, data_dir: Path | None = None) -> Path | None:
    """Return the file that `load` would read, whether or not it exists; None for `demo`."""
    return None if name == "demo" else resolve_data_dir(data_dir) / PREPARED_NAME

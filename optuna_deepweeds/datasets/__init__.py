"""Data sets as arrays in memory with a split: DeepWeeds, generated plants, anyone's folders."""

from __future__ import annotations

import os
from pathlib import Path

from optuna_deepweeds.datasets.dataset import SIDE, Dataset, Progress
from optuna_deepweeds.datasets.location import resolve_data_dir
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
    "The splits share scenes: {near} of the test images were taken within 10 s of one trained on, "
    "and the class of the one nearest in time is right for {right}. Accuracy on new scenes is "
    "lower: see deepweeds-scenes."
)
NOTES: dict[str, str] = {
    "deepweeds": _SHARED.format(near="59 %", right="96 %"),  # Of fold 0.
    "deepweeds-balanced": _SHARED.format(near="35 %", right="94 %"),
    "deepweeds-scenes": "No day and camera is in two splits, but a day may be: 24 % of the test "
    "images were taken within 10 s of one trained on, of another camera, and the class of the one "
    "nearest in time is right for 61 %.",
}
"""Name -> what to know before its accuracies are believed."""

DEMO_SIZES: dict[str, int] = {"train": 2000, "valid": 800, "test": 800}
"""Pictures in each split of `demo`."""

__all__ = [
    "DATASETS",
    "DEMO_SIZES",
    "NOTES",
    "SIDE",
    "Dataset",
    "Progress",
    "is_folder",
    "load",
    "place",
    "resolve_data_dir",
]


def load(
    name: str,
    *,
    data_dir: Path | None = None,
    fold: int = 0,
    size: int = SIDE,
    group_by: str = "",
    progress: Progress | None = None,
) -> Dataset:
    """Return the data set `name`: one of `DATASETS`, or else a folder of class folders.

    Args:
        name: Its name, or the path of the folder. A folder that is called like a data set is
            named as `./demo`. The data set of a folder is called by its absolute path.
        data_dir: Where the prepared file lies; without it the variable DEEPWEEDS_DATA says so,
            and without that it is the user's cache directory. Where a folder lies that has been
            moved since. Not used by `demo`.
        fold: Which official fold of `deepweeds` (0 to 4). The others have one split only, 0.
        size: Sides of the images of a folder; the others have 32.
        group_by: As for `folder.load_folder`.
        progress: Likewise.

    Raises:
        NotFoundError: Its images are not on this machine.
        InvalidInputError: No such data set or fold, or the prepared file or the folder is not of
            the required form.
        DeepWeedsError: The system refuses to read it.
    """
    if name != "deepweeds" and fold != 0:
        raise InvalidInputError(f"{name} has one split, fold 0, but fold {fold} was asked for.")
    if is_folder(name):
        from optuna_deepweeds.datasets.folder import load_folder

        path = os.path.abspath(os.path.expanduser(name))
        return load_folder(
            data_dir or Path(path), name=path, size=size, group_by=group_by, progress=progress
        )
    choose("data set or folder", name, DATASETS)
    if size != SIDE or group_by:
        asked = f"--size {size}" if size != SIDE else f"--group-by {group_by!r}"
        raise InvalidInputError(f"{asked} is for folders, but {name} is as it is: {SIDE}x{SIDE}.")
    if name == "demo":
        from optuna_deepweeds.datasets.demo import load_demo

        return load_demo(**DEMO_SIZES)
    from optuna_deepweeds.datasets.deepweeds import load_balanced, load_deepweeds

    place = resolve_data_dir(data_dir)
    if name == "deepweeds":
        return load_deepweeds(place, fold)
    return load_balanced(place, by_scene=name == "deepweeds-scenes")


def is_folder(name: str) -> bool:
    """Whether `name` means a folder, which need not exist, and none of `DATASETS`."""
    return name not in DATASETS and (os.sep in name or os.path.exists(os.path.expanduser(name)))


def place(name: str, data_dir: Path | None = None) -> Path | None:
    """Return what `load` would read, whether or not it exists; None for `demo`."""
    if is_folder(name):
        return data_dir or Path(name)
    from optuna_deepweeds.datasets.prepared import PREPARED_NAME

    return None if name == "demo" else resolve_data_dir(data_dir) / PREPARED_NAME

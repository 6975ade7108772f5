"""Where data sets lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from optuna_deepweeds.errors import InvalidInputError

DATA_DIR_VARIABLE = "DEEPWEEDS_DATA"


def resolve_data_dir(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the data directory, which need not exist yet.

    Args:
        data_dir: The directory asked for; without it the variable DEEPWEEDS_DATA names it, and
            without that it is `optuna_deepweeds` in the user's cache directory
            (XDG_CACHE_HOME, else `~/.cache`).

    Raises:
        InvalidInputError: Something that is not a directory has that name.
    """
    variable = os.environ.get(DATA_DIR_VARIABLE, "")
    if data_dir is not None:
        path, origin = Path(data_dir), "the data directory"
    elif variable:
        path, origin = Path(variable), DATA_DIR_VARIABLE
    else:
        path, origin = cache_dir(), "the data directory"
    path = path.expanduser()
    if path.exists() and not path.is_dir():
        raise InvalidInputError(f"{origin} must be a directory, but {path} is a file.")
    return path


def cache_dir() -> Path:
    """The package's own part of the user's cache directory, which need not exist yet."""
    # The XDG specification has relative values ignored.
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    return root / "optuna_deepweeds"

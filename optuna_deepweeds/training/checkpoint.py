"""Checkpoint and model files: written whole or not at all, read without running code from them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.files import write_whole


def write(content: Mapping[str, Any], path: Path) -> None:
    """Save `content` at `path`, whole or not at all.

    Raises:
        InvalidInputError: If the file cannot be written.
    """
    # In memory first: of a disk that is full torch tells nothing but a position.
    saved = io.BytesIO()
    torch.save(dict(content), saved)
    write_whole(path, saved.getvalue())


def read(path: Path, kind: str) -> dict[str, Any]:
    """Load a file that `write` wrote, tensors on the CPU.

    Args:
        path: The file.
        kind: What its entry `kind` must be, for example "checkpoint".

    Raises:
        NotFoundError: If there is no such file.
        InvalidInputError: If it is damaged, of another kind, or holds more than plain data.
    """
    if not path.is_file():
        raise NotFoundError(f"no file {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch muses about foreign pickles; we refuse them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:
        # Damaged bytes make the unpickler raise nearly anything (IndexError, UnicodeError, …).
        raise InvalidInputError(
            f"{path} must be of the kind {kind!r}, but cannot be read."
        ) from None
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise InvalidInputError(f"{path} must be of the kind {kind!r}, but is something else.")
    return content

"""Checkpoint files: written atomically, read without running code from them, bounded in number."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from optuna_deepweeds.errors import InvalidInputError, NotFoundError


def write_atomically(content: Mapping[str, Any], path: Path) -> None:
    """Save `content` at `path` so that a reader sees the old file or the new one, never half.

    Raises:
        InvalidInputError: If the folder cannot be written.
    """
    part = new_part(path)
    try:
        with part.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def new_part(path: Path) -> Path:
    """A new empty file beside `path`, to be filled and renamed to it.

    Its permissions are those of any new file, which a temporary file's are not.

    Raises:
        InvalidInputError: If the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch(exist_ok=False)
    except OSError as error:
        raise InvalidInputError(f"{path} must be writable, but: {error.strerror}.") from error
    return part


def read(path: Path, kind: str) -> dict[str, Any]:
    """Load a file that `write_atomically` wrote, tensors on the CPU.

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

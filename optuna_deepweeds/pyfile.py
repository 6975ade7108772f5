"""What a user's own Python file holds: `file.py:NAME`."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.schema import did_you_mean


@dataclass(frozen=True)
class Found:
    """An object of a file.

    Attributes:
        value: The object.
        module: The file as a module.
        digest: Of the file's content.
    """

    value: Any
    module: ModuleType
    digest: str


def load_from(place: str, kind: str, *, folder: Path | None = None) -> Found:
    """Import the object at `file.py:NAME`.

    Args:
        place: Where it is.
        kind: What it is, with an article, for the messages: "an objective".
        folder: What a relative file is relative to; None for the current one.

    Raises:
        NotFoundError: If there is no such file.
        InvalidInputError: If the file cannot be imported, or has no such object.
    """
    file, _, name = place.rpartition(":")
    if not file.endswith(".py") or not name:
        raise InvalidInputError(f"{kind} is named `file.py:NAME`, but got {place!r}.")
    path = (folder or Path.cwd()) / file
    if not path.is_file():
        raise NotFoundError(f"no file {path if folder else file}.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # Under a name of its own, so that it replaces no other module.
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Where dataclasses and pickle look for it.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # It may import its neighbours.
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InvalidInputError(
            f"{file} must be a module that can be imported, but: {told(error, path)}"
        ) from error
    if not hasattr(module, name):
        own = [key for key, v in vars(module).items() if getattr(v, "__module__", "") == spec.name]
        hint = did_you_mean(name, vars(module)) or f" It has: {', '.join(own)}." * bool(own)
        raise InvalidInputError(f"{file} has no {name!r}.{hint}")
    return Found(getattr(module, name), module, digest)


def told(error: BaseException, path: Path) -> str:
    """`error` in a line, with the line of the file `path` that it left."""
    text = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{text} (line {lines[-1]})" if lines and not isinstance(error, SyntaxError) else text

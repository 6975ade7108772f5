"""Option types that the commands share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


class Duration(click.ParamType):
    """Seconds, or a text such as 90s, 30m, 1h30m."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        match = _DURATION.fullmatch(value.strip().lower())
        if match is None or not any(match.groups()):
            self.fail(f"{value!r} must be a time such as 90s, 30m or 1h30m.", param, ctx)
        hours, minutes, seconds = (float(group or 0) for group in match.groups())
        return hours * 3600 + minutes * 60 + seconds


class Output(click.Path):
    """A file, or a folder, that a command writes at its end: refused at once if it cannot be."""

    def __init__(self, *, is_folder: bool = False) -> None:
        super().__init__(path_type=Path, file_okay=not is_folder, dir_okay=is_folder)
        self.is_folder = is_folder

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        problem = _write_problem(path)
        if problem:
            self.fail(problem, param, ctx)
        return path


def _write_problem(path: Path) -> str:
    """Why nothing can be written at `path`, whose folders may be made; "" if it can."""
    if not path.name:
        return "a file must have a name."
    if str(path) == "-":
        return "a file must have a name; writing to standard output is not possible."
    try:
        there = next(p for p in (path, *path.absolute().parents) if p.exists())
    except OSError as error:
        return f"{path} cannot be written: {error.strerror}."
    if there != path and not there.is_dir():
        return f"{path} must lie in a folder, but {there} is a file."
    return "" if os.access(there, os.W_OK) else f"{there} must be writable."

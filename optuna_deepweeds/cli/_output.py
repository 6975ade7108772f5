"""How commands print: data on stdout as a table, JSON or CSV; everything else on stderr."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

format_option = click.option(
    "-f",
    "--format",
    "fmt",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    help="How to print the data.",
)
_said = {"format": "text", "storage": ""}
"""How `info` writes, and the storage as hints must name it."""


def _note_storage(ctx: click.Context, param: click.Parameter, url: str | None) -> str | None:
    """Remember a storage that was typed: whoever pastes a hint means the same one."""
    is_typed = ctx.get_parameter_source("storage_url") == click.core.ParameterSource.COMMANDLINE
    _said["storage"] = ""
    if url and is_typed:
        from optuna_deepweeds.studies.storage.engine import redact

        _said["storage"] = f" --storage {shlex.quote(redact(url))}"
    return url


storage_option = click.option(
    "--storage",
    "storage_url",
    envvar="OPTUNA_STORAGE",
    metavar="URL",
    callback=_note_storage,
    help="Database of the studies, such as sqlite:///storage/optuna.db or "
    "postgresql://user@host/db; the default is a SQLite file in storage/. "
    "Also read from OPTUNA_STORAGE.",
)


def emit(
    rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str] | None = None, fmt: str
) -> None:
    """Print `rows` on stdout.

    Args:
        rows: One mapping a row; a column that a row lacks is printed as empty (null in JSON).
        columns: Keys to print, in order, by default all; a narrow terminal shows the first ones
            of a table.
        fmt: "table" for people, "json" (a list of objects) or "csv" for programs.
    """
    if columns is None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    if fmt == "json":
        click.echo(json.dumps([{c: _plain(r.get(c)) for c in columns} for r in rows], indent=2))
    elif fmt == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[_csv_cell(row.get(c)) for c in columns] for row in rows])
    else:
        _print_table(rows, columns)


def emit_record(
    record: Mapping[str, Any], *, fmt: str, params: Mapping[str, Any] | None = None
) -> None:
    """Print one record: a line a field for people, an object in JSON, a row in CSV.

    `params` follow under their exact names; people do not see fields without a value.
    """
    whole = {**record, **(params or {})}
    if fmt == "json":
        click.echo(json.dumps(_plain(whole), indent=2))
    elif fmt == "csv":
        emit([whole], columns=list(whole), fmt=fmt)
    else:
        shown = {k.replace("_", " "): v for k, v in record.items() if v is not None}
        shown.update(params or {})
        width = max((len(key) for key in shown), default=0)
        for key, value in shown.items():
            click.echo(f"{key:<{width}}  {_cell(value)}")


def log_as(fmt: str) -> None:
    """From now on write what `info` tells as "text" or as "json"."""
    _said["format"] = fmt


def logs_text() -> bool:
    """Whether `info` writes for people."""
    return _said["format"] == "text"


def typed(command: str) -> str:
    """A command such as "study list" as it can be pasted here: its program, its storage."""
    program = "optuna-deepweeds"
    if shutil.which(program) is None and sys.argv[0].endswith(f"/{program}"):
        program = shlex.quote(sys.argv[0])
    return f"{program} {command}{_said['storage']}"


_COMMAND = re.compile(r"`((?:study|experiment|priors|dashboard)\b[^`]*)`")


def info(message: str, **fields: Any) -> None:
    """Tell the user something that is not data; in JSON with the `fields` that programs read.

    Commands in backticks, without the program's name, become such as can be pasted.
    """
    message = _COMMAND.sub(lambda match: f"`{typed(match[1])}`", message)
    if not logs_text():
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": "message"}
        message = json.dumps(_plain({**line, **fields, "message": message.strip()}))
    # Not by `click.echo`, which writes past what a live picture puts in the place of stderr.
    print(message, file=sys.stderr, flush=True)


def terminal_width() -> int:
    """Columns to write to; one is left free, as a full line makes some terminals scroll."""
    return shutil.get_terminal_size((80, 24)).columns - 1


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    cells = [[c.replace("_", " ") for c in columns]]
    cells += [[_cell(row.get(c)) for c in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    n_shown = len(columns)
    if sys.stdout.isatty():
        while n_shown > 1 and sum(widths[:n_shown]) + 2 * (n_shown - 1) > terminal_width():
            n_shown -= 1
    is_number = [
        any(isinstance(row.get(c), (int, float)) for row in rows)
        and all(isinstance(row.get(c), (int, float, type(None))) for row in rows)
        for c in columns
    ]
    cells.insert(1, ["-" * width for width in widths])
    for line in cells:
        padded = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(line, widths, is_number, strict=True)
        )
        click.echo("  ".join(list(padded)[:n_shown]).rstrip())
    if n_shown < len(columns):
        left_out = ", ".join(c.replace("_", " ") for c in columns[n_shown:])
        info(f"This terminal is too narrow for: {left_out}; -f csv prints all.")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={_cell(v)}" for k, v in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(v) for v in value) or "-"
    return str(value)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(_plain(value))
    if isinstance(value, datetime):
        return _plain(value)
    return "" if value is None else value


def _plain(value: Any) -> Any:
    """`value` as JSON knows it, which has no NaN or infinity."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value

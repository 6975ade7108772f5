"""How commands print: data on stdout as a table, JSON or CSV; everything else on stderr."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

FORMATS = ("table", "json", "csv")

_Command = TypeVar("_Command", bound=Callable[..., Any])


def format_option(command: _Command) -> _Command:
    """Add `-f/--format table|json|csv`, passed on as `fmt`."""
    return click.option(
        "-f",
        "--format",
        "fmt",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="How to print the data.",
    )(command)


def storage_option(command: _Command) -> _Command:
    """Add `--storage URL`, passed on as `storage_url` (None: the default SQLite file)."""
    return click.option(
        "--storage",
        "storage_url",
        envvar="OPTUNA_STORAGE",
        metavar="URL",
        help="Database of the studies, such as sqlite:///storage/optuna.db or "
        "postgresql://user@host/db; the default is a SQLite file in storage/. "
        "Also read from OPTUNA_STORAGE.",
    )(command)


def emit(rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str], fmt: str) -> None:
    """Print `rows` on stdout.

    Args:
        rows: One mapping a row; a column that a row lacks is printed as empty (null in JSON).
        columns: Keys to print, in order.
        fmt: "table" for people, "json" (a list of objects) or "csv" for programs.
    """
    if fmt == "json":
        click.echo(json.dumps([_jsonable({c: r.get(c) for c in columns}) for r in rows], indent=2))
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
    params = params or {}
    if fmt == "json":
        click.echo(json.dumps(_jsonable({**record, **params}), indent=2))
    elif fmt == "csv":
        emit([{**record, **params}], columns=[*record, *params], fmt=fmt)
    else:
        shown = {k.replace("_", " "): v for k, v in record.items() if v is not None}
        shown.update(params)
        width = max((len(key) for key in shown), default=0)
        for key, value in shown.items():
            click.echo(f"{key:<{width}}  {_cell(value)}")


def info(message: str) -> None:
    """Tell the user something that is not data."""
    click.echo(message, err=True)


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    cells = [[_cell(row.get(c)) for c in columns] for row in rows]
    headers = [c.replace("_", " ") for c in columns]
    widths = [
        max(len(headers[i]), *(len(row[i]) for row in cells)) if cells else len(headers[i])
        for i in range(len(columns))
    ]
    is_number = [
        any(isinstance(row.get(c), (int, float)) for row in rows)
        and all(isinstance(row.get(c), (int, float, type(None))) for row in rows)
        for c in columns
    ]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, is_number, strict=True)
        )
        return "  ".join(padded).rstrip()

    click.echo(line(headers))
    click.echo(line(["-" * width for width in widths]))
    for row in cells:
        click.echo(line(row))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, timedelta):
        return duration(value.total_seconds())
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={_cell(v)}" for k, v in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(v) for v in value) or "-"
    return str(value)


def duration(seconds: float) -> str:
    """`seconds` as people write it: 42s, 3m10s, 2h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _csv_cell(value: Any) -> Any:
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(_jsonable(value))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return "" if value is None else value


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN or infinity
    return value

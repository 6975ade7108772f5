"""`spaces`: what is searched, by name or from a file."""

from __future__ import annotations

from typing import Any

import click

from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.report.standing import counted
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.spaces.load import load_space, to_data, to_toml

_COLUMNS = ("parameter", "type", "range", "log", "step", "when")


@click.group()
def spaces() -> None:
    """Show search spaces, those that come with the program and one's own."""


@spaces.command("list")
@format_option
def list_(fmt: str) -> None:
    """List the spaces that come with the program."""
    emit([{"space": n, "parameters": len(s.parameters)} for n, s in SPACES.items()], fmt=fmt)


@spaces.command()
@click.argument("name", metavar="NAME|FILE")
@click.option("--toml", is_flag=True, help="As a TOML file, to begin a space of one's own with.")
@format_option
def show(name: str, toml: bool, fmt: str) -> None:
    """Show the parameters of a space: course, mine.toml or mine.py:SPACE.

    In Python a space is a dictionary of Optuna's distributions by name, or a
    optuna_deepweeds.spaces.SearchSpace with conditions and constants.
    """
    space = load_space(name)
    if toml:
        click.echo(to_toml(space), nl=False)
        return
    rows: list[dict[str, Any]] = []
    for parameter, entry in zip(
        space.parameters, to_data(space)["parameters"].values(), strict=True
    ):
        row = {"parameter": parameter.name, "type": entry.get("type", "categorical")}
        row["range"] = entry.get("choices") or [entry["low"], entry["high"]]
        row |= {"log": entry.get("log"), "step": entry.get("step")}
        row["when"] = None if parameter.condition is None else str(parameter.condition)
        rows.append(row)
    rows += [
        {"parameter": key, "type": "constant", "range": [value]}
        for key, value in space.constants.items()
    ]
    emit(rows, columns=_COLUMNS, fmt=fmt)
    n_constants = counted(len(space.constants), "constant")
    info(f"{counted(len(space.parameters), 'parameter')}, {n_constants}.")

"""Options and rows that the commands of `bench` share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optuna_deepweeds.cli._output import info

if TYPE_CHECKING:
    from optuna_deepweeds.bench.results import Cell


def listed(
    kind: Callable[[str], Any], *, least: float = -math.inf, below: float = math.inf
) -> Callable[..., Any]:
    """A callback that reads values separated by commas, each within [least, below)."""

    def parse(ctx: click.Context, param: click.Parameter, text: str | None) -> list[Any] | None:
        if text is None:
            return None
        try:
            values = [kind(item.strip()) for item in text.split(",") if item.strip()]
        except ValueError:
            values = []
        if not values or (kind is not str and not all(least <= v < below for v in values)):
            what = {int: "whole numbers", float: "numbers"}.get(kind, "names")  # type: ignore[call-overload]
            limits = f" from {least:g} on" if least > -math.inf else ""
            limits += f", below {below:g}" if below < math.inf else ""
            raise click.BadParameter(f"must be {what}{limits} separated by commas, got {text!r}.")
        return values

    return parse


option = partial(click.option, show_default=True)
names = partial(option, callback=listed(str))
counts = partial(option, callback=listed(int, least=1))


def parse_seeds(ctx: click.Context | None, param: click.Parameter | None, text: str) -> range:
    """`N` means 0 to N-1, `a-b` means a to b, both ends included."""
    first, dash, last = text.partition("-")
    try:
        seeds = range(int(first), int(last) + 1) if dash else range(int(first))
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise click.BadParameter(
            f"seeds are a number (20: seeds 0 to 19) or a range (20-39), but got {text!r}."
        )
    return seeds


seeds_option = partial(
    option, "--seeds", callback=parse_seeds, help="How many seeds, or a range a-b."
)
"""`seeds_option(default="3")` adds `--seeds`, passed on as a range."""

processes_option = option(
    "--processes", default=1, type=click.IntRange(min=1), help="Runs at a time."
)
output_file = click.Path(dir_okay=False, path_type=Path)
output_option = partial(
    option,
    "--output",
    type=output_file,
    help="Results file (JSON lines) of all runs; those already in it are not run again.",
)


def tell(cell: Cell, n: int, total: int) -> None:
    """Say that a cell was run."""
    info(f"[{n}/{total}] {cell}")


def with_errors(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record for people: every figure and its standard error in one column."""
    merged: dict[str, Any] = {}
    for name, value in record.items():
        if name.endswith("_se"):
            continue
        error = record.get(f"{name}_se")
        if error is None or not math.isfinite(value):
            merged[name] = value
        else:
            merged[name] = f"{value:.3g} ±{error:.2g}" if math.isfinite(error) else f"{value:.3g}"
    return merged

"""The CSV file of the pruner benchmark: one row for each run, with its whole course."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from optuna_deepweeds.errors import InvalidInputError


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        curves: Source of the curves (see `curves.load`).
        max_resource: Epochs of a full training.
        pruner: Name in `peers.PEERS`, with options if any.
        workers: Simulated workers.
        order: "random" or the name of one of our samplers.
        noise: Standard deviation of the noise on reports.
        mislead: Share of the first epochs in which the configurations' order is reversed.
        storage: Where the study lives: "memory" or "sqlite", a file of its own.
        budget: Full trainings to pay for.
        seed: Of the order, the noise, the sampler, the pruner and what is held out.
        held_out: Configurations that are not replayed, because their curves may be given to a
            pruner beforehand.
        prior_curves: What the pruner is given, see `warm_start.KINDS`.
        prior_sources: Sources of the other tasks whose curves it is given, if any.
    """

    curves: str
    max_resource: int
    pruner: str
    workers: int
    order: str
    noise: float
    mislead: float
    storage: str
    budget: int
    seed: int
    held_out: int = 0
    prior_curves: str = "none"
    prior_sources: tuple[str, ...] = ()


RESULTS = (
    "task",
    "digest",
    "prior_digest",
    "epochs",
    "trials",
    "continuations",
    "outside_top_tenth",
    "top_started",
    "top_stopped",
    "decisions",
    "decision_ms",
    "seconds",
    "finished",
    "seen",
)
COLUMNS = tuple(field.name for field in fields(Cell)) + RESULTS

_ADDED: dict[str, Any] = {
    "held_out": "0",
    "prior_curves": "none",
    "prior_sources": "[]",
    "prior_digest": "",
}
"""Columns that files of earlier versions lack, and what holds for their rows."""

# Digests stand for the sources, which may lie elsewhere the next time.
_KEY = tuple(
    column
    for column in (*(field.name for field in fields(Cell)), "digest", "prior_digest")
    if column not in ("curves", "prior_sources")
)


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a row from all others: its cell and the curves that it was run on."""
    return tuple(row[column] for column in _KEY)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of an output file, numbers and trajectories parsed.

    A last line cut short by an interruption is ignored. Files written before there were prior
    curves are read as runs without.

    Raises:
        InvalidInputError: If the file is not one of this benchmark.
    """
    rows = []
    for number, raw in enumerate(_raw_rows(path), start=2):
        try:
            rows.append({column: _PARSERS[column](raw[column]) for column in COLUMNS})
        except (ValueError, TypeError):
            raise InvalidInputError(
                f"every row must hold the benchmark's numbers, but {path}, line {number}, "
                f"does not."
            ) from None
    return rows


def prepare(path: Path) -> None:
    """Make `path` a file that rows can be appended to.

    A new file gets its header, one that ends with an unfinished line loses it, and one of an
    earlier version gets the columns that it lacks.
    """
    if not path.exists() or path.stat().st_size == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(",".join(COLUMNS) + "\n")
        return
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
    with path.open(newline="") as file:
        header = next(csv.reader(file))
    if tuple(header) != COLUMNS:
        rows = _raw_rows(path)
        upgraded = path.with_name(path.name + ".upgraded")
        with upgraded.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        upgraded.replace(path)


def dump(trajectory: Sequence[tuple[int, float]]) -> str:
    """A trajectory of `replay.Outcome` as the text of its field."""
    return json.dumps([[epochs, round(regret, 6)] for epochs, regret in trajectory])


def _raw_rows(path: Path) -> list[dict[str, Any]]:
    """The rows as text, with all of today's columns."""
    text = path.read_text()
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(text.splitlines())
    earlier = tuple(column for column in COLUMNS if column not in _ADDED)
    if reader.fieldnames is not None and tuple(reader.fieldnames) not in (COLUMNS, earlier):
        raise InvalidInputError(
            f"the columns must be those of `bench pruners`, but {path} has "
            f"{', '.join(reader.fieldnames)}."
        )
    return [{**_ADDED, **raw} for raw in reader]


_PARSERS: dict[str, Callable[[Any], Any]] = {
    **{
        column: str
        for column in ("curves", "pruner", "order", "storage", "task", "digest")
        + ("prior_curves", "prior_digest")
    },
    **{
        column: int
        for column in ("max_resource", "workers", "budget", "seed", "epochs", "trials")
        + ("continuations", "top_started", "top_stopped", "decisions", "held_out")
    },
    **{
        column: float
        for column in ("noise", "mislead", "outside_top_tenth", "decision_ms", "seconds")
    },
    **{column: json.loads for column in ("finished", "seen", "prior_sources")},
}

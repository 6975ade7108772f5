"""The CSV file of a sampler benchmark: appended cell by cell, read by every summary.

A *cell* is one run: task, sampler, priors and seed. A row of a cell is the state of its
incumbent (the configuration with the best value told so far) after some number of evaluations.
Rows are written at the reporting budgets and whenever the incumbent changes, so the whole
trajectory is in the file without a row an evaluation.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.errors import InvalidInputError, NotFoundError


@dataclass(frozen=True)
class Row:
    """The incumbent of one run after `evaluations` evaluations.

    Attributes:
        family: Family of the task.
        task: The problem.
        sampler: As named on the command line, options included.
        priors: "none", or for instance "good/3" with the number of enqueued configurations.
        seed: Seed of the run.
        budget: Evaluations of the whole run.
        evaluations: Evaluations so far.
        value: What the sampler was told for the incumbent (one noisy repeat).
        score: The incumbent's true value.
        fraction: Share of all configurations that are strictly better than the incumbent.
        regret: Distance of `score` to the optimum, 1 at the median configuration.
        milliseconds: Mean CPU time of a suggestion so far (ask, suggest and tell).
        params: The incumbent as JSON.
    """

    family: str
    task: str
    sampler: str
    priors: str
    seed: int
    budget: int
    evaluations: int
    value: float
    score: float
    fraction: float
    regret: float
    milliseconds: float
    params: str

    @property
    def cell(self) -> CellKey:
        """Which run the row belongs to."""
        return CellKey(self.task, self.sampler, self.priors, self.seed)


@dataclass(frozen=True)
class CellKey:
    """Which run: the columns that tell runs apart."""

    task: str
    sampler: str
    priors: str
    seed: int


COLUMNS = tuple(field.name for field in fields(Row))
_HEADER = ",".join(COLUMNS) + "\n"
_WINDOW = 1 << 18
_INTEGERS = {"seed", "budget", "evaluations"}
_FLOATS = {"value", "score", "fraction", "regret", "milliseconds"}


def append(path: Path, rows: Sequence[Row]) -> None:
    """Append one finished cell, whole; several processes may append to the same file."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows(astuple(row) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # A writer that was killed leaves at most a torn tail, since a cell is one write.
        _drop_torn_tail(file)
        file.write(buffer.getvalue().encode())
        file.flush()
        os.fsync(file.fileno())


def _drop_torn_tail(file: BufferedRandom) -> None:
    """Cut what follows the last finished cell, and see to the header of a new file."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        file.write(_HEADER.encode())
        return
    # A cell is far smaller than the window; a longer torn tail is read in whole.
    for start in (max(0, size - _WINDOW), 0):
        file.seek(start)
        tail = file.read()
        end = tail.rfind(b"\n") + 1
        while end > 0:
            line = tail.rfind(b"\n", 0, end - 1) + 1
            row = _parse(next(csv.reader([tail[line:end].decode(errors="replace")])))
            is_header = start + line == 0
            if is_header or (row is not None and row.evaluations == row.budget):
                file.truncate(start + end)
                file.seek(0, os.SEEK_END)
                return
            end = line
    file.truncate(0)
    file.write(_HEADER.encode())


def read(paths: Path | Iterable[Path]) -> list[Row]:
    """All rows of finished cells; of a cell run twice, the longest and then the latest run.

    Raises:
        NotFoundError: If a file does not exist.
        InvalidInputError: If a file has other columns.
    """
    runs: dict[CellKey, list[Row]] = {}
    for path in [paths] if isinstance(paths, Path) else paths:
        if not path.exists():
            raise NotFoundError(f"no results file {path}.")
        # A last line without its end is torn, even if all that lacks is the end.
        lines = path.read_text().rpartition("\n")[0].splitlines()
        if lines and tuple(lines[0].split(",")) != COLUMNS:
            raise InvalidInputError(
                f"a results file has the columns {','.join(COLUMNS)}, but {path} has {lines[0]}."
            )
        current: list[Row] = []
        for cells in csv.reader(lines[1:]):
            row = _parse(cells)
            if row is None or (current and row.cell != current[0].cell):
                current = []
            if row is None:
                continue
            current.append(row)
            if row.evaluations == row.budget:
                known = runs.get(row.cell)
                if known is None or known[0].budget <= row.budget:
                    runs[row.cell] = current
                current = []
    return [row for rows in runs.values() for row in rows]


def _parse(cells: Sequence[str]) -> Row | None:
    """A row, or None if the line is torn."""
    if len(cells) != len(COLUMNS):
        return None
    try:
        return Row(
            **{
                name: int(cell) if name in _INTEGERS else float(cell) if name in _FLOATS else cell
                for name, cell in zip(COLUMNS, cells, strict=True)
            }  # type: ignore[arg-type]
        )
    except ValueError:
        return None


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records of equal keys as a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def finished(path: Path, budget: int) -> set[CellKey]:
    """Cells of the file that were run for at least `budget` evaluations."""
    if not path.exists():
        return set()
    return {row.cell for row in read(path) if row.budget >= budget}


@dataclass(frozen=True)
class Trajectories:
    """Runs of one sampler on one task, aligned on the number of evaluations.

    Attributes:
        seeds: (n_seeds,) seeds in increasing order.
        score: (n_seeds, budget) the incumbent's true value after 1, 2, ... evaluations.
        fraction: (n_seeds, budget) likewise.
        regret: (n_seeds, budget) likewise.
        milliseconds: (n_seeds, budget) mean CPU time of a suggestion so far.
    """

    seeds: NDArray[np.int64]
    score: NDArray[np.float64]
    fraction: NDArray[np.float64]
    regret: NDArray[np.float64]
    milliseconds: NDArray[np.float64]


def trajectories(
    rows: Iterable[Row], budget: int, *, priors: str = "none"
) -> dict[str, dict[str, Trajectories]]:
    """Sampler -> task -> trajectories, of the runs that are at least `budget` long."""
    runs: dict[tuple[str, str], dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.budget >= budget and row.priors == priors:
            runs[row.sampler, row.task][row.seed].append(row)
    result: dict[str, dict[str, Trajectories]] = defaultdict(dict)
    for (sampler, task), by_seed in runs.items():
        seeds = sorted(by_seed)
        steps = {
            name: np.array([_step_function(by_seed[seed], name, budget) for seed in seeds])
            for name in ("score", "fraction", "regret", "milliseconds")
        }
        result[sampler][task] = Trajectories(
            np.array(seeds),
            steps["score"],
            steps["fraction"],
            steps["regret"],
            steps["milliseconds"],
        )
    return dict(result)


def _step_function(rows: Sequence[Row], column: str, budget: int) -> NDArray[np.float64]:
    values = np.full(budget, np.nan)
    for row in sorted(rows, key=lambda row: row.evaluations):
        values[row.evaluations - 1 :] = getattr(row, column)
    return values

"""The results file of every benchmark: JSON lines, one run a line.

A run is a *case* (what is to be solved, and everything that all methods of one comparison share),
a *method* (what solves it: a sampler, a pruner, what they are given beforehand) and a seed. Its
line holds its whole course, so that summaries read and never run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna_deepweeds import schema
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.files import locked


@dataclass(frozen=True)
class Cell:
    """Which run.

    Attributes:
        case: What is to be solved, as JSON values; `task` names it.
        method: What solves it, as JSON values; names as on the command line, options included.
        seed: Of everything that is drawn.
        budget: How long the run is, in the benchmark's unit.
        sources: Files that it needs; where they lie does not tell runs apart.
    """

    case: Mapping[str, Any]
    method: Mapping[str, Any]
    seed: int
    budget: int
    sources: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What tells runs apart; a longer one stands for a shorter one."""
        return json.dumps([self.case, self.method, self.seed], sort_keys=True)

    def __str__(self) -> str:
        name, *others = self.method.values()
        told = [name, *(value for value in others if value not in ("", "none", "random"))]
        return f"{self.case['task']}: {', '.join(told)}, seed {self.seed}"


@dataclass(frozen=True)
class Run(Cell):
    """A cell that was run, with what came of it as JSON values."""

    results: Mapping[str, Any] = field(default_factory=dict)


def append(path: Path, run: Run) -> None:
    """Append a run; several processes may append to one file.

    A writer that was killed leaves at most the beginning of a line, which is cut.
    """
    line = json.dumps(vars(run)).encode() + b"\n"
    with locked(path), path.open("r+b") as file:
        if file.seek(0, 2) and (file.seek(-1, 2), file.read())[1] != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0, 2)
        file.write(line)


def read(path: Path) -> list[Run]:
    """All runs of a file; of one that was run twice, the longest and then the latest.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: It is not one of a benchmark.
    """
    if not path.exists():
        raise NotFoundError(f"no results file {path}.")
    runs: dict[str, Run] = {}
    # What follows the last line's end was cut short by an interruption.
    for number, line in enumerate(path.read_text().rpartition("\n")[0].splitlines(), start=1):
        where = f"{path}, line {number}"
        try:
            run = schema.load(Run, json.loads(line), where)
        except json.JSONDecodeError:
            raise InvalidInputError(f"{where} must be a run as JSON, but is none.") from None
        known = runs.get(run.key)
        if known is None or known.budget <= run.budget:
            runs[run.key] = run
    return list(runs.values())

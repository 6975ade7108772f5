"""The prior trials that come with the package, a file for each data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from optuna_deepweeds.priors.read import read_priors
from optuna_deepweeds.priors.record import STOPPED_EARLY, PriorTrial

_IN_WHEEL = Path(__file__).with_name("shipped")
SHIPPED = _IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).parents[2] / "priors"
"""The folder of their files: `priors/` of a checkout, which a wheel carries inside the package."""


def read_shipped(folder: Path = SHIPPED) -> list[PriorTrial]:
    """All of `folder`; the source of each is the stem of its file.

    Where a training was stopped early, its last value stands for its end: what was let through
    further has a better one.
    """
    rows = [row for path in sorted(folder.glob("*.csv")) for row in read_priors(path)]
    return [
        replace(row, problem="", is_forecast=True) if row.problem == STOPPED_EARLY else row
        for row in rows
    ]

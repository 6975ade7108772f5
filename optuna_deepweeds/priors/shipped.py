"""The prior trials that come with the package, a file for each data set."""

from __future__ import annotations

from pathlib import Path

from optuna_deepweeds.priors.read import read_priors
from optuna_deepweeds.priors.record import PriorTrial

_IN_WHEEL = Path(__file__).with_name("shipped")
SHIPPED = _IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).parents[2] / "priors"
"""The folder of their files: `priors/` of a checkout, which a wheel carries inside the package."""


def read_shipped() -> list[PriorTrial]:
    """Those that were trained to the end; the source of each is the stem of its file.

    What was stopped early is left out: its last value would rank what is good late, as all strong
    augmentation, behind what is good early.
    """
    rows = [row for path in sorted(SHIPPED.glob("*.csv")) for row in read_priors(path)]
    return [row for row in rows if not row.problem]

"""Earlier trials as a head start: read, match to a space, import, export.

`read_priors` takes a file, `read_study` a study; `match_priors` tells what a study can use of it;
`import_priors` puts that into the study's companion, whose trials inform sampler and pruner.
"""

from __future__ import annotations

from optuna_deepweeds.priors.insert import (
    Choose,
    ImportSummary,
    import_priors,
    imported_counts,
    n_imported,
)
from optuna_deepweeds.priors.match import Dropped, Matching, match_priors
from optuna_deepweeds.priors.read import read_priors
from optuna_deepweeds.priors.record import PriorTrial, with_metric
from optuna_deepweeds.priors.shipped import SHIPPED, read_shipped
from optuna_deepweeds.priors.study import export_priors, read_study

__all__ = [
    "SHIPPED",
    "Choose",
    "Dropped",
    "ImportSummary",
    "Matching",
    "PriorTrial",
    "export_priors",
    "import_priors",
    "imported_counts",
    "match_priors",
    "n_imported",
    "read_priors",
    "read_shipped",
    "read_study",
    "with_metric",
]

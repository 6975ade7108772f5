"""Earlier trials as a head start: read, match to a space, import, export.

`read_priors` takes a file or `URL#STUDY`; `match_priors` tells which rows are points of a space;
`import_priors` puts them into a study; `prior_sources` and `curves` hand them to samplers and
pruners as plain data.
"""

from __future__ import annotations

from optuna_deepweeds.priors.export import export_priors
from optuna_deepweeds.priors.from_study import read_study
from optuna_deepweeds.priors.insert import ImportSummary, import_priors
from optuna_deepweeds.priors.matching import Dropped, Matching, match_priors
from optuna_deepweeds.priors.reading import read_priors
from optuna_deepweeds.priors.record import PriorTrial
from optuna_deepweeds.priors.sources import SourceData, curves, prior_sources

__all__ = [
    "Dropped",
    "ImportSummary",
    "Matching",
    "PriorTrial",
    "SourceData",
    "curves",
    "export_priors",
    "import_priors",
    "match_priors",
    "prior_sources",
    "read_priors",
    "read_study",
]

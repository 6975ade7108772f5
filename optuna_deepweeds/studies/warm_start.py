"""The prior trials of the package that a new study of images begins with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import optuna

from optuna_deepweeds.priors import ImportSummary, PriorTrial, read_shipped
from optuna_deepweeds.samplers import PORTFOLIO_SIZE, takes_priors
from optuna_deepweeds.spaces import SPACES, SearchSpace
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.spec import StudySpec


def shipped_priors(spec: StudySpec) -> list[PriorTrial]:
    """Those that are of use to a study: of images, in a space of the package, with a sampler that
    takes priors.

    Of other images without their curves, which say nothing about those on these.
    """
    if spec.kind != "images" or spec.space_data is not None or not takes_priors(spec.sampler):
        return []
    kept = manager.preview_priors(read_shipped(), spec, None).kept
    return [p if p.dataset == spec.dataset else replace(p, curve={}) for p in kept]


def add_shipped(study: optuna.Study, priors: Sequence[PriorTrial]) -> ImportSummary:
    """Import `shipped_priors`; the study begins with the best of its own data set, where there
    are some, else with those that together did best on all their tasks."""
    spec = manager.study_spec(study)
    choose = partial(_together_best, SPACES[spec.space], spec.dataset)
    return manager.add_priors(study, priors, enqueue_best=PORTFOLIO_SIZE, choose=choose)


def _together_best(
    space: SearchSpace, dataset: str, rows: Mapping[str, PriorTrial], n: int
) -> list[str]:
    """Keys of the `n` rows whose configurations together serve all their sources best, those of
    `dataset` where there are some."""
    from optuna_deepweeds.samplers import PriorSource, portfolio

    by_source: dict[str, list[PriorTrial]] = defaultdict(list)
    own = [row for row in rows.values() if row.dataset == dataset]
    for row in own or rows.values():
        by_source[row.source].append(row)
    sources = [
        PriorSource(name, [row.params for row in told], [-row.loss for row in told])
        for name, told in by_source.items()
    ]
    chosen = portfolio(sources, space.distributions, n, space)
    return [next(key for key, row in rows.items() if row.params == params) for params in chosen]

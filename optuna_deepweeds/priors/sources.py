"""Priors as plain data for the rooms that learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from optuna_deepweeds.priors.matching import Matching, match_priors
from optuna_deepweeds.priors.record import PriorTrial
from optuna_deepweeds.spaces import SearchSpace


class SourceData(NamedTuple):
    """Observations of another task.

    Attributes:
        name: Name of the source.
        params: One dict a trial, in the target space's own types.
        values: As many values, larger is better; only their order has a meaning across tasks.
    """

    name: str
    params: list[dict[str, Any]]
    values: list[float]


def prior_sources(
    priors: Sequence[PriorTrial], space: SearchSpace
) -> tuple[list[SourceData], Matching]:
    """Group `priors` by source for a transfer sampler, with missing parameters imputed.

    Args:
        priors: Trials of other tasks, metrics or overlapping spaces.
        space: The space of the study that is to learn from them.

    Returns:
        The sources in order of first appearance, and what matching did.
    """
    matching = match_priors(priors, space, impute=True)
    sources: dict[str, SourceData] = {}
    for prior in matching.kept:
        source = sources.setdefault(prior.source, SourceData(prior.source, [], []))
        source.params.append(dict(prior.params))
        source.values.append(-prior.loss)
    return list(sources.values()), matching


def curves(priors: Sequence[PriorTrial]) -> list[dict[int, float]]:
    """The learning curves of `priors` that were trained to their end (epoch -> value)."""
    return [
        dict(prior.curve)
        for prior in priors
        if not prior.problem and prior.epochs is not None and prior.epochs in prior.curve
    ]

"""Configurations to begin with: few that together do well on every earlier task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from optuna_deepweeds.samplers.encoding import Encoder
from optuna_deepweeds.samplers.transfer import PriorSource, SourceReader
from optuna_deepweeds.spaces import SearchSpace


def portfolio(
    sources: Sequence[PriorSource],
    distributions: Mapping[str, BaseDistribution],
    n: int,
    space: SearchSpace | None = None,
) -> list[dict[str, Any]]:
    """At most `n` different configurations of the sources, the most useful first.

    Each next one raises the mean over the sources of the best expected normal score among those
    chosen most; where none raises it, it is the one of the best mean score. What a configuration
    of one source is worth in another is foretold by a forest, and so is its own, lest luck be
    chosen. Of one source these are the best that the forest foretells.

    Args:
        sources: Evaluations of other tasks; their configurations are points of the space.
        distributions: Of all parameters of the target.
        n: Configurations wanted.
        space: The space with its conditions, if they are declared.
    """
    encoder = Encoder(distributions)
    means = SourceReader(sources, space, 0).read(encoder)
    rows = [dict(params) for source in sources for params in source.params]
    X = encoder.encode(rows)
    _, first = np.unique(encoder.keys(X), return_index=True)
    rows, X = [rows[i] for i in np.sort(first)], X[np.sort(first)]
    if not means:
        return []
    scores = np.stack([mean.predict(X) for mean in means])
    covered = np.full(len(means), -np.inf)
    chosen: list[int] = []
    for _ in range(min(n, len(rows))):
        gain = np.maximum(scores, covered[:, None]).mean(axis=0)
        gain[chosen] = -np.inf
        ties = np.flatnonzero(gain >= gain.max() - 1e-9)
        chosen.append(int(ties[np.argmax(scores.mean(axis=0)[ties])]))
        covered = np.maximum(covered, scores[:, chosen[-1]])
    return [rows[i] for i in chosen]

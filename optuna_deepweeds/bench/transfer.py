"""Priors for a table: random trials of the other tasks of its family, honest or misleading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from optuna_deepweeds.bench.problems import (
    load_problem,
    random_params,
    stream,
)
from optuna_deepweeds.bench.tables import TABLE_FAMILIES
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers.transfer import PriorSource

KINDS = ("good", "negated", "shuffled")
"""What the priors of a benchmark can be worth."""
N_TRIALS = 100
"""Random configurations of each source, before its best are removed."""
REMOVED_SHARE = 0.2
"""Share of each source, its best, that is removed: priors from a search that went badly."""


@dataclass(frozen=True)
class Priors:
    """What a sampler is told before the first trial of a task.

    Attributes:
        sources: One for each other task of the family.
    """

    sources: tuple[PriorSource, ...]

    def best(self, n: int) -> list[dict[str, Any]]:
        """The best `n` configurations: the sources' first, then their second, and so on."""
        ordered = [
            [source.params[i] for i in np.argsort(source.values)[::-1][:n]]
            for source in self.sources
        ]
        chosen: list[dict[str, Any]] = []
        for same_rank in zip(*ordered, strict=True):
            for params in same_rank:
                if len(chosen) < n and params not in chosen:
                    chosen.append(dict(params))
        return chosen


def prior_sources(task: str, *, seed: int, kind: str = "good") -> Priors:
    """The other tasks of `task`'s family as sources.

    Args:
        task: The target; only tables have priors.
        seed: Of the run; each seed has sources of its own.
        kind: One of `KINDS`: honest values; values turned around, so that the priors recommend
            what is bad; or values dealt out at random, so that they say nothing.

    Raises:
        InvalidInputError: If the task has no sister tasks.
    """
    family = next((names for names in TABLE_FAMILIES.values() if task in names), None)
    if family is None:
        raise InvalidInputError(f"priors need a table ({', '.join(TABLE_FAMILIES)}), got {task}.")
    sources = tuple(_source(name, task, seed, kind) for name in family if name != task)
    return Priors(sources)


def _source(name: str, target: str, seed: int, kind: str) -> PriorSource:
    problem = load_problem(name)
    rng = stream(seed, "priors", name, target)
    trials: list[tuple[float, Mapping[str, Any]]] = []
    for _ in range(N_TRIALS):
        params = random_params(problem.space, rng)
        trials.append((-problem.sign * problem.evaluate(params, rng.random()), params))
    trials.sort(key=lambda trial: trial[0])
    kept = trials[: N_TRIALS - round(REMOVED_SHARE * N_TRIALS)]
    values = np.array([value for value, _ in kept])
    if kind == "negated":
        values = -values
    elif kind == "shuffled":
        values = rng.permutation(values)
    return PriorSource(name, [params for _, params in kept], values.tolist())

"""What samplers are given beforehand: honest or misleading trials of other tasks of the family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optuna_deepweeds import seeds
from optuna_deepweeds.bench.curves import Curves
from optuna_deepweeds.bench.problems import load_problem, random_params
from optuna_deepweeds.bench.tables import TABLE_FAMILIES
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers import PriorSource

KINDS = ("good", "negated", "shuffled")
"""What sources are worth: honest values; turned around, so that they recommend what is bad; dealt
out at random, so that they say nothing."""

N_TRIALS = 100
"""Configurations of each source, before its best are removed."""

REMOVED_SHARE = 0.2
"""Share of each source, its best, that is removed: priors from a search that went badly."""


def sources(task: str, *, seed: int, kind: str = "good") -> list[PriorSource]:
    """The other tasks of `task`'s family as sources of a sampler.

    Args:
        task: The target; only tables have priors.
        seed: Of the run; each seed has sources of its own.
        kind: One of `KINDS`.

    Raises:
        InvalidInputError: The task has no sister tasks.
    """
    family = next((names for names in TABLE_FAMILIES.values() if task in names), None)
    if family is None:
        raise InvalidInputError(f"priors need a table ({', '.join(TABLE_FAMILIES)}), got {task}.")
    return [_source(name, task, seed, kind) for name in family if name != task]


def _source(name: str, target: str, seed: int, kind: str) -> PriorSource:
    problem = load_problem(name)
    rng = seeds.generator(seed, "priors", name, target)
    params, values = [], []
    for _ in range(N_TRIALS):
        params.append(random_params(problem.space, rng))
        values.append(-problem.sign * problem.evaluate(params[-1], rng.random()))
    return _made(name, params, values, kind, rng)


def of_curves(others: Sequence[Curves], target: str, *, seed: int, kind: str) -> list[PriorSource]:
    """Other tables of curves as sources: configurations with their final values."""
    found = []
    for table in others:
        rng = seeds.generator(seed, "priors", table.name, target)
        rows = rng.permutation(len(table.values))[:N_TRIALS]
        params, values = [table.params[row] for row in rows], table.reports[rows, -1].tolist()
        found.append(_made(table.name, params, values, kind, rng))
    return found


def _made(
    name: str,
    params: Sequence[Mapping[str, Any]],
    values: Sequence[float],
    kind: str,
    rng: np.random.Generator,
) -> PriorSource:
    kept = np.argsort(values, kind="stable")[: len(values) - round(REMOVED_SHARE * len(values))]
    told = np.array(values)[kept]
    if kind == "negated":
        told = -told
    elif kind == "shuffled":
        told = rng.permutation(told)
    return PriorSource(name, [params[i] for i in kept], told.tolist())


def best(sources: Sequence[PriorSource], n: int) -> list[dict[str, Any]]:
    """The best `n` configurations: the sources' first, then their second, and so on."""
    ordered = [[s.params[i] for i in np.argsort(s.values)[::-1][:n]] for s in sources]
    chosen: list[dict[str, Any]] = []
    for same_rank in zip(*ordered, strict=True):
        for params in same_rank:
            if len(chosen) < n and params not in chosen:
                chosen.append(dict(params))
    return chosen

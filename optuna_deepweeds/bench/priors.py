"""What samplers are given beforehand: trials of the other tasks of a family, of any worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from optuna_deepweeds import seeds
from optuna_deepweeds.bench.curves import Curves, unit_cube
from optuna_deepweeds.bench.problems import load_problem, random_params
from optuna_deepweeds.bench.tables import TABLE_FAMILIES
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers import PORTFOLIO_SIZE, PriorSource
from optuna_deepweeds.schema import choose

_REMOVED = {"medium": 0.2, "mislead": 0.5}
KINDS = ("well", *_REMOVED, "deceive", "unrelated")
"""What sources are worth. `well`: as they are. `medium`, `mislead`: without the fifth, the half of
their configurations that is best on the target, so that what they recommend is mediocre there, or
bad. `deceive`: values turned around. `unrelated`: values dealt out at random."""

NO_PRIORS = "none"

N_TRIALS = 100
"""Configurations of each source, before any are removed."""


def parse(given: str) -> tuple[str, int]:
    """Kind and number of enqueued configurations of `NO_PRIORS`, "well" or "well/3".

    Raises:
        InvalidInputError: There is no such kind, or no such number.
    """
    kind, mark, number = given.partition("/")
    choose("kind of priors", kind, (NO_PRIORS, *KINDS))
    if mark and not number.isdecimal():
        raise InvalidInputError(f"priors are written KIND or KIND/NUMBER, but got {given!r}.")
    return kind, int(number) if mark else PORTFOLIO_SIZE


def sources(task: str, *, seed: int, kind: str = "well") -> list[PriorSource]:
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
    target = load_problem(task)
    made = []
    for name in family:
        if name == task:
            continue
        problem = load_problem(name)
        rng = seeds.generator(seed, "priors", name, task)
        params, values = [], []
        for _ in range(N_TRIALS):
            params.append(random_params(problem.space, rng))
            values.append(-problem.sign * problem.evaluate(params[-1], rng.random()))
        worth = [-target.sign * target.score(p) for p in params]
        made.append(_made(name, params, values, worth, kind, rng))
    return made


def of_curves(
    others: Sequence[Curves], target: Curves, *, seed: int, kind: str
) -> list[PriorSource]:
    """Other tables of curves as sources: configurations with their final values.

    A configuration's worth on `target` is that of the nearest one there.
    """
    found = []
    points = unit_cube(target.params, target.distributions)
    for table in others:
        rng = seeds.generator(seed, "priors", table.name, target.name)
        rows = rng.permutation(len(table.values))[:N_TRIALS]
        params, values = [table.params[row] for row in rows], table.reports[rows, -1].tolist()
        nearest = cdist(unit_cube(params, target.distributions), points).argmin(axis=1)
        worth = target.values[nearest, -1].tolist()
        found.append(_made(table.name, params, values, worth, kind, rng))
    return found


def _made(
    name: str,
    params: Sequence[Mapping[str, Any]],
    values: Sequence[float],
    worth: Sequence[float],
    kind: str,
    rng: np.random.Generator,
) -> PriorSource:
    n_kept = len(values) - round(_REMOVED.get(kind, 0.0) * len(values))
    kept = np.sort(np.argsort(worth, kind="stable")[:n_kept])
    told = np.array(values)[kept]
    if kind == "deceive":
        told = -told
    elif kind == "unrelated":
        told = rng.permutation(told)
    return PriorSource(name, [params[i] for i in kept], told.tolist())

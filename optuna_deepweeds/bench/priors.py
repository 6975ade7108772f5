"""What samplers and pruners are given beforehand: honest, misleading, or of other tasks.

For samplers, random trials of the other tables of the family. For pruners, curves of
configurations of the same task that are held out: the replay does not propose them. Which ones
depends on the seed alone, so that runs with and without prior curves replay the same
configurations in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds import seeds
from optuna_deepweeds.bench.curves import Curves
from optuna_deepweeds.bench.problems import load_problem, random_params
from optuna_deepweeds.bench.replay import generator
from optuna_deepweeds.bench.tables import TABLE_FAMILIES
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers import PriorSource

CURVES = ("none", "same", "related", "shifted", "lowered", "negated")
"""What a pruner can be given: nothing (the control), the held-out curves without the best fifth,
curves of the other tasks, or those of `same` .3 too high, .3 too low or turned upside down."""

N_TRIALS = 100
"""Configurations of each source, before its best are removed."""

REMOVED_SHARE = 0.2
"""Share of each source, its best, that is removed: priors from a search that went badly."""

_SHIFT = 0.3


def sources(task: str, *, seed: int, kind: str = "good") -> list[PriorSource]:
    """The other tasks of `task`'s family as sources of a sampler.

    Args:
        task: The target; only tables have priors.
        seed: Of the run; each seed has sources of its own.
        kind: What they are worth: "good", honest values; "negated", turned around, so that they
            recommend what is bad; "shuffled", dealt out at random, so that they say nothing.

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


def best(sources: Sequence[PriorSource], n: int) -> list[dict[str, Any]]:
    """The best `n` configurations: the sources' first, then their second, and so on."""
    ordered = [[s.params[i] for i in np.argsort(s.values)[::-1][:n]] for s in sources]
    chosen: list[dict[str, Any]] = []
    for same_rank in zip(*ordered, strict=True):
        for params in same_rank:
            if len(chosen) < n and params not in chosen:
                chosen.append(dict(params))
    return chosen


def n_held_out(curves: Curves) -> int:
    """How many configurations of these curves are held out: never more than half of them."""
    return min(N_TRIALS, len(curves.values) // 2)


def hold_out(curves: Curves, n: int, *, seed: int) -> tuple[Curves, NDArray[np.float64]]:
    """The curves to replay, and (n, T) the others."""
    if n == 0:
        return curves, np.empty((0, curves.n_epochs))
    rows = generator(seed, curves, 2).permutation(len(curves.values))
    return curves.subset(np.sort(rows[n:])), curves.values[rows[:n]]


def pruner_options(
    kind: str, held_out: NDArray[np.float64], related: Sequence[Curves] = (), *, seed: int
) -> dict[str, Any]:
    """The arguments of `DoraPruner` that give it the prior curves.

    Args:
        kind: One of `CURVES`.
        held_out: (n, T) curves of the task.
        related: The other tasks.
        seed: Decides which configurations of the other tasks are taken.
    """
    if kind == "none":
        return {}
    if kind == "related":
        rows = [generator(seed, t, 3).permutation(len(t.values))[:N_TRIALS] for t in related]
        return {"related_curves": [t.values[r] for t, r in zip(related, rows, strict=True)]}
    worst_first = np.argsort(held_out[:, -1], kind="stable")
    curves = held_out[worst_first[: len(held_out) - round(REMOVED_SHARE * len(held_out))]]
    match kind:
        case "shifted":
            curves = curves + _SHIFT
        case "lowered":
            curves = curves - _SHIFT
        case "negated":
            # About the median, so that the values stay ordinary ones and only their order tells.
            curves = 2 * np.median(curves) - curves
    return {"prior_curves": curves}

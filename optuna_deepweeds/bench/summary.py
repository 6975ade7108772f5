"""From the runs of samplers on tables to measures; reads, never runs.

Measures over the tasks of a group (a family, or all), with bootstrap errors over the
seeds of each task and sampler:
    fraction   geometric mean of (share of configurations strictly better + 1e-5), in 1e-4
    ratio      of fraction to the reference's on the same tasks
    regret     mean of the normalised regret
    reach      evaluations after which the fraction is as good as the reference's at the end
    P          probability that a run beats a peer's run, ties 1/2, mean over tasks
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.bench.problems import family_of
from optuna_deepweeds.bench.results import Run
from optuna_deepweeds.seeds import generator

FLOOR = 1e-5
"""Added to fractions before the logarithm, so that the optimum itself has a finite one."""
UNIT = 1e-4
_N_RESAMPLES = 1000
_NO_PRIORS = "none"

Array = NDArray[np.float64]


def course(at: Sequence[int], values: Sequence[float], n: int, *, before: float = np.nan) -> Array:
    """(n,): the value that holds after 1, 2, ... n, given those from `at` on."""
    filled = np.full(n, before)
    for first, value in zip(at, values, strict=True):
        filled[first - 1 :] = value
    return filled


class SamplerRuns:
    """The runs of one sampler on one task, with the weights of their resamples.

    A resample of n runs is a row of n weights that sum to one, so that a mean over runs becomes
    a product of matrices. Independent samples take independent weights.

    Attributes:
        weights: (1 + n_resamples, n_seeds); the first row is the sample itself.
        fraction, regret, score, milliseconds: (n_seeds, budget), see `samplers.run_cell`.
    """

    def __init__(self, runs: Sequence[Run], budget: int, label: str) -> None:
        runs = sorted(runs, key=lambda run: run.seed)
        courses = [run.results["course"] for run in runs]
        self.fraction, self.regret, self.score, self.milliseconds = (
            np.array([course(c["evaluations"], c[name], budget) for c in courses])
            for name in ("fraction", "regret", "score", "milliseconds")
        )
        n = len(runs)
        rng = generator(0, "bootstrap", label, runs[0].case["task"])
        resamples = rng.multinomial(n, np.full(n, 1 / n), size=_N_RESAMPLES) / n
        self.weights = np.vstack([np.full((1, n), 1 / n), resamples])

    def mean(self, values: Array) -> Array:
        """(1 + n_resamples, ...) means of (n_seeds, ...) values in every resample."""
        return np.asarray(self.weights @ values)

    def log_fraction(self) -> Array:
        """(1 + n_resamples, budget) means of the logarithm of the fraction."""
        return self.mean(np.log(self.fraction + FLOOR))


def sampler_runs(runs: Sequence[Run], budget: int) -> dict[str, dict[str, SamplerRuns]]:
    """Label (sampler, with its priors if it had some) -> task -> runs of at least `budget`."""
    grouped: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.budget >= budget:
            sampler, priors = run.method["sampler"], run.method["priors"]
            label = sampler if priors == _NO_PRIORS else f"{sampler} +{priors}"
            grouped[label][run.case["task"]].append(run)
    return {
        label: {task: SamplerRuns(members, budget, label) for task, members in tasks.items()}
        for label, tasks in grouped.items()
    }


def summarise_samplers(
    runs: Sequence[Run],
    *,
    budgets: Sequence[int] = (50, 100),
    reference: str = "tpe",
    by_task: bool = False,
) -> list[dict[str, Any]]:
    """A record for every group of tasks, number of evaluations and sampler.

    A standard error follows its figure as `NAME_se`.

    Args:
        runs: As `results.read` returns them.
        budgets: After how many evaluations; one that no run reached is left out.
        reference: The sampler of `ratio` and `reach`; `reach` is the number of evaluations
            needed for what the reference has after the largest of `budgets`.
        by_task: Also a group for each task.
    """
    longest = max((run.budget for run in runs), default=0)
    budgets = sorted(b for b in budgets if b <= longest)
    if not budgets:
        return []
    table = sampler_runs(runs, budgets[-1])
    tasks = list(dict.fromkeys(run.case["task"] for run in runs))
    families = list(dict.fromkeys(map(family_of, tasks)))
    groups: dict[str, list[str]] = {"all": tasks} if len(families) > 1 else {}
    groups |= {f: [t for t in tasks if family_of(t) == f] for f in families}
    if by_task:
        groups |= {task: [task] for task in tasks}
    return [
        {"group": group, **_sampler_record(table, label, members, budget, reference)}
        for group, members in groups.items()
        for budget in budgets
        for label in table
        if set(members) & set(table[label])
    ]


def _sampler_record(
    table: Mapping[str, Mapping[str, SamplerRuns]],
    label: str,
    members: Sequence[str],
    budget: int,
    reference: str,
) -> dict[str, Any]:
    at = budget - 1
    peers = table.get(reference, {})
    ours = {t: table[label][t] for t in members if t in table[label]}
    shared = [t for t in ours if t in peers]
    own = [ours[t] for t in shared or ours]
    curves = np.mean([run.log_fraction() for run in own], axis=0)
    ratio = reach = np.full(2, np.nan)
    if shared:
        goal = np.mean([peers[t].log_fraction() for t in shared], axis=0)
        reached = curves <= goal[:, -1:]
        reach = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)
        ratio = np.exp(curves[:, at] - goal[:, at])
    name, _, priors = label.partition(" +")
    record = {
        "sampler": name,
        "priors": priors or _NO_PRIORS,
        "tasks": len(own),
        "seeds": min(len(run.score) for run in own),
        "after": budget,
        **_with_spread("fraction", np.exp(curves[:, at]) / UNIT),
        **_with_spread("ratio", ratio),
        **_with_spread("regret", np.mean([run.mean(run.regret[:, at]) for run in own], axis=0)),
        **_with_spread("reach", reach),
        "ms": float(np.mean([run.milliseconds[:, at].mean() for run in own])),
    }
    if label == reference:
        record["ratio_se"] = math.nan
    for peer, theirs in table.items():
        common = [t for t in members if t in table[label] and t in theirs]
        if peer != label and common:
            wins = [_wins(table[label][t], theirs[t], at) for t in common]
            record |= _with_spread(f"P_{peer}", np.mean(wins, axis=0))
    return record


def _wins(ours: SamplerRuns, theirs: SamplerRuns, at: int) -> Array:
    """(1 + n_resamples,) probability that a run of ours beats one of theirs."""
    # Regret orders as the score does, whatever the direction of the task.
    a, b = ours.regret[:, at, None], theirs.regret[None, :, at]
    return np.asarray((ours.mean((a < b) + 0.5 * (a == b)) * theirs.weights).sum(axis=1))


def _with_spread(name: str, outcomes: Array) -> dict[str, float]:
    """A figure, the first outcome, and as its error the spread of the others.

    NaN where a resample has no finite outcome; 0 for a single run, whose spread is unknown.
    """
    others = outcomes[1:]
    error = float(others.std(ddof=1)) if np.isfinite(others).all() else math.nan
    return {name: float(outcomes[0]), f"{name}_se": error}

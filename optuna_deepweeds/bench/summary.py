"""From the rows of a sampler benchmark to its table of measures; reads, never runs.

Measures, each over the tasks of a group (a family, or all):
    fraction   geometric mean of (share of configurations strictly better + 1e-5), in 1e-4
    regret     mean of the normalised regret
    P          probability that a run beats a peer's run, ties 1/2, mean over tasks
    reach      evaluations after which the fraction is as good as the reference sampler's
               at the end
Standard errors are bootstrapped over the seeds of each task and sampler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.bench import statistics
from optuna_deepweeds.bench.problems import family_of, stream
from optuna_deepweeds.bench.results import Row, trajectories

FLOOR = 1e-5
"""Added to fractions before the logarithm, so that the optimum itself has a finite one."""
UNIT = 1e-4
REFERENCE = "tpe"


@dataclass(frozen=True)
class Measures:
    """One sampler on one group of tasks after `budget` evaluations.

    Attributes:
        group: "all" or a family.
        sampler: Its label.
        priors: Which priors it was given.
        n_tasks: Tasks of the group that it was run on, together with the reference.
        n_seeds: The smallest number of seeds over these tasks.
        budget: Evaluations.
        fraction: See the module, in 1e-4; `fraction_error` its standard error.
        ratio: `fraction` divided by the reference's on the same tasks; NaN without reference.
        regret: See the module.
        reach: See the module; infinite if it never got there.
        milliseconds: Mean CPU time of a suggestion.
        beats: Peer -> (probability of beating it, standard error) on the tasks of both.
    """

    group: str
    sampler: str
    priors: str
    n_tasks: int
    n_seeds: int
    budget: int
    fraction: float
    fraction_error: float
    ratio: float
    ratio_error: float
    regret: float
    regret_error: float
    reach: float
    reach_error: float
    milliseconds: float
    beats: Mapping[str, tuple[float, float]]

    def as_row(self) -> dict[str, Any]:
        """One flat record; a standard error follows its figure as `<name>_se`."""
        row: dict[str, Any] = {
            "group": self.group,
            "sampler": self.sampler,
            "priors": self.priors,
            "tasks": self.n_tasks,
            "seeds": self.n_seeds,
            "after": self.budget,
            "fraction": self.fraction,
            "fraction_se": self.fraction_error,
            "ratio": self.ratio,
            "ratio_se": self.ratio_error,
            "regret": self.regret,
            "regret_se": self.regret_error,
            "reach": self.reach,
            "reach_se": self.reach_error,
            "ms": self.milliseconds,
        }
        for peer, (probability, error) in self.beats.items():
            row[f"P_{peer}"] = probability
            row[f"P_{peer}_se"] = error
        return row


@dataclass(frozen=True)
class _Runs:
    """The runs of one sampler on one task, with the weights of their resamples.

    Attributes:
        weights: (1 + n_resamples, n_seeds), see `statistics.bootstrap_weights`.
        log: (n_seeds, budget) log(fraction + FLOOR).
        regret: (n_seeds, budget).
        milliseconds: (n_seeds, budget).
    """

    weights: NDArray[np.float64]
    log: NDArray[np.float64]
    regret: NDArray[np.float64]
    milliseconds: NDArray[np.float64]


_Table = Mapping[str, Mapping[str, _Runs]]


def summarise(
    rows: Sequence[Row],
    *,
    budgets: Sequence[int] = (50, 100),
    reference: str = REFERENCE,
    by_task: bool = False,
) -> list[Measures]:
    """Measures of every sampler, for all tasks together and family by family.

    Args:
        rows: As `results.read` returns them.
        budgets: After how many evaluations; one that no run reached is left out.
        reference: The sampler of `ratio` and `reach`; `reach` is the number of evaluations
            needed for what the reference has after the largest of `budgets`.
        by_task: Also a group for each task.
    """
    longest = max((row.budget for row in rows), default=0)
    budgets = sorted(b for b in budgets if b <= longest)
    if not budgets:
        return []
    table = _labelled(rows, budgets[-1])
    tasks = list(dict.fromkeys(row.task for row in rows))
    families = list(dict.fromkeys(family_of(task) for task in tasks))
    groups: dict[str, list[str]] = {"all": tasks} if len(families) > 1 else {}
    groups |= {f: [t for t in tasks if family_of(t) == f] for f in families}
    if by_task:
        groups |= {task: [task] for task in tasks}
    return [
        _measure(table, label, group, members, budget, reference)
        for group, members in groups.items()
        for budget in budgets
        for label in table
        if set(members) & set(table[label])
    ]


def _labelled(rows: Sequence[Row], budget: int) -> dict[str, dict[str, _Runs]]:
    """Label (sampler, with its priors if it had some) -> task -> runs."""
    table: dict[str, dict[str, _Runs]] = {}
    for priors in dict.fromkeys(row.priors for row in rows):
        for sampler, tasks in trajectories(rows, budget, priors=priors).items():
            label = sampler if priors == "none" else f"{sampler} +{priors}"
            table[label] = {
                task: _Runs(
                    statistics.bootstrap_weights(
                        len(run.seeds), stream(0, "bootstrap", label, task)
                    ),
                    np.log(run.fraction + FLOOR),
                    run.regret,
                    run.milliseconds,
                )
                for task, run in tasks.items()
            }
    return table


def _measure(
    table: _Table, label: str, group: str, members: Sequence[str], budget: int, reference: str
) -> Measures:
    peers = table.get(reference, {})
    ours = {t: table[label][t] for t in members if t in table[label]}
    shared = [t for t in ours if t in peers]
    if shared:
        ours = {t: ours[t] for t in shared}
    runs = list(ours.values())
    curves = np.mean([run.weights @ run.log for run in runs], axis=0)
    fraction, fraction_error = statistics.estimate(np.exp(curves[:, budget - 1]) / UNIT)
    regret, regret_error = statistics.estimate(
        np.mean([run.weights @ run.regret[:, budget - 1] for run in runs], axis=0)
    )
    ratio = ratio_error = reach = reach_error = float("nan")
    if shared:
        goal = np.mean([peers[t].weights @ peers[t].log for t in shared], axis=0)
        reached = curves <= goal[:, -1:]
        first = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)
        reach, reach_error = statistics.estimate(first)
        ratio, ratio_error = statistics.estimate(
            np.exp(curves[:, budget - 1] - goal[:, budget - 1])
        )
    name, _, priors = label.partition(" +")
    return Measures(
        group=group,
        sampler=name,
        priors=priors or "none",
        n_tasks=len(runs),
        n_seeds=min(len(run.log) for run in runs),
        budget=budget,
        fraction=fraction,
        fraction_error=fraction_error,
        ratio=ratio,
        ratio_error=ratio_error if label != reference else float("nan"),
        regret=regret,
        regret_error=regret_error,
        reach=reach,
        reach_error=reach_error,
        milliseconds=float(np.mean([run.milliseconds[:, budget - 1].mean() for run in runs])),
        beats={
            peer: _beats(table[label], table[peer], members, budget)
            for peer in table
            if peer != label and set(members) & set(table[peer]) & set(table[label])
        },
    )


def _beats(
    ours: Mapping[str, _Runs], theirs: Mapping[str, _Runs], members: Sequence[str], budget: int
) -> tuple[float, float]:
    """Probability that a run of ours beats one of theirs, and its standard error."""
    outcomes = []
    for task in members:
        if task in ours and task in theirs:
            a, b = ours[task], theirs[task]
            # Regret orders as the score does, whatever the direction of the task.
            wins = statistics.win_matrix(a.regret[:, budget - 1], b.regret[:, budget - 1])
            outcomes.append(((a.weights @ wins) * b.weights).sum(axis=1))
    return statistics.estimate(np.mean(outcomes, axis=0))

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
from optuna_deepweeds.bench.problems import family_of
from optuna_deepweeds.bench.results import Row, Trajectories, trajectories

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
        milliseconds: Mean time of a suggestion.
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
    measures = []
    for group, members in groups.items():
        for budget in budgets:
            for label in table:
                measured = _measure(table, label, group, members, budget, reference)
                if measured is not None:
                    measures.append(measured)
    return measures


def _labelled(rows: Sequence[Row], budget: int) -> dict[str, dict[str, Trajectories]]:
    """Label (sampler, with its priors if it had some) -> task -> trajectories."""
    table: dict[str, dict[str, Trajectories]] = {}
    for priors in dict.fromkeys(row.priors for row in rows):
        for sampler, tasks in trajectories(rows, budget, priors=priors).items():
            table[sampler if priors == "none" else f"{sampler}+{priors}"] = tasks
    return table


def _measure(
    table: Mapping[str, Mapping[str, Trajectories]],
    label: str,
    group: str,
    members: Sequence[str],
    budget: int,
    reference: str,
) -> Measures | None:
    ours = {t: table[label][t] for t in members if t in table[label]}
    peers = table.get(reference, {})
    shared = [t for t in ours if t in peers]
    if shared:
        ours = {t: ours[t] for t in shared}
    if not ours:
        return None
    runs = list(ours.values())
    logs = [np.log(run.fraction + FLOOR) for run in runs]
    regrets = [run.regret[:, budget - 1] for run in runs]
    sizes = [len(run.seeds) for run in runs]
    at_budget = [log[:, budget - 1] for log in logs]

    ratio = ratio_error = reach = reach_error = float("nan")
    if shared:
        others = [np.log(peers[t].fraction + FLOOR) for t in shared]
        both = [*sizes, *(len(log) for log in others)]
        everything = [np.arange(n) for n in both]

        def compare(indices: Sequence[NDArray[np.int64]]) -> tuple[float, float]:
            mine = _curve(logs, indices[: len(logs)])
            their = _curve(others, indices[len(logs) :])
            reached = np.flatnonzero(mine <= their[-1])
            n = float(reached[0] + 1) if len(reached) else float("inf")
            return float(np.exp(mine[budget - 1] - their[budget - 1])), n

        ratio, reach = compare(everything)
        ratio_error, reach_error = statistics.bootstrap(compare, both)

    name, _, priors = label.partition("+")
    fraction = np.exp(_mean_of_means(at_budget, [np.arange(size) for size in sizes]))
    return Measures(
        group=group,
        sampler=name,
        priors=priors or "none",
        n_tasks=len(ours),
        n_seeds=min(sizes),
        budget=budget,
        fraction=float(fraction) / UNIT,
        fraction_error=float(
            statistics.bootstrap(
                lambda indices: np.exp(_mean_of_means(at_budget, indices)) / UNIT, sizes
            )
        ),
        ratio=ratio,
        ratio_error=float(ratio_error),
        regret=float(np.mean([regret.mean() for regret in regrets])),
        regret_error=float(
            statistics.bootstrap(lambda indices: _mean_of_means(regrets, indices), sizes)
        ),
        reach=reach,
        reach_error=float(reach_error),
        milliseconds=float(np.mean([run.milliseconds[:, budget - 1].mean() for run in runs])),
        beats={
            peer: _beats(table[label], table[peer], members, budget)
            for peer in table
            if peer != label and set(members) & set(table[peer]) & set(table[label])
        },
    )


def _curve(
    logs: Sequence[NDArray[np.float64]], indices: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """(budget,) mean over tasks of the mean over the chosen seeds."""
    return np.mean([log[i].mean(axis=0) for log, i in zip(logs, indices, strict=True)], axis=0)


def _mean_of_means(
    samples: Sequence[NDArray[np.float64]], indices: Sequence[NDArray[np.int64]]
) -> float:
    return float(np.mean([s[i].mean() for s, i in zip(samples, indices, strict=True)]))


def _beats(
    ours: Mapping[str, Trajectories],
    theirs: Mapping[str, Trajectories],
    members: Sequence[str],
    budget: int,
) -> tuple[float, float]:
    tasks = [t for t in members if t in ours and t in theirs]
    matrices = []
    for task in tasks:
        # Regret orders as the score does, whatever the direction of the task.
        matrices.append(
            statistics.win_matrix(
                ours[task].regret[:, budget - 1], theirs[task].regret[:, budget - 1]
            )
        )
    n = len(matrices)

    def probability(indices: Sequence[NDArray[np.int64]]) -> float:
        return float(
            np.mean(
                [
                    matrix[np.ix_(rows, columns)].mean()
                    for matrix, rows, columns in zip(
                        matrices, indices[:n], indices[n:], strict=True
                    )
                ]
            )
        )

    sizes = [matrix.shape[0] for matrix in matrices] + [matrix.shape[1] for matrix in matrices]
    return (
        probability([np.arange(size) for size in sizes]),
        float(statistics.bootstrap(probability, sizes)),
    )

"""What ending a study when it is flat loses and saves, on recorded and generated learning curves.

A run holds a whole study, so that a summary tells of the rule as it is now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from optuna.trial import TrialState

from optuna_deepweeds.bench.families import curves_of, family_of, group_of
from optuna_deepweeds.bench.methods import make_pruner, make_sampler
from optuna_deepweeds.bench.replay import Simulation
from optuna_deepweeds.bench.results import Cell, Run
from optuna_deepweeds.seeds import derive
from optuna_deepweeds.studies.accounting import Progress, epochs_trained
from optuna_deepweeds.studies.ending import outlook
from optuna_deepweeds.studies.spec import Budget
from optuna_deepweeds.trials import root

MOST_LOST = 0.5
"""Points below the full budget at which a study still ends well."""


def grid(
    curves: Sequence[str],
    samplers: Sequence[str],
    pruners: Sequence[str],
    *,
    max_resource: int,
    budget: int,
    seeds: Sequence[int],
) -> list[Cell]:
    """Every combination as a cell, seeds slowest; arguments as for `pruners.grid`."""
    return [
        Cell(
            {"task": table.name, "digest": table.digest, "max_resource": max_resource},
            {"sampler": sampler, "pruner": pruner},
            seed,
            budget,
            (source,),
        )
        for seed in seeds
        for source, table in ((s, curves_of(s).cut(max_resource)) for s in curves)
        for sampler in samplers
        for pruner in pruners
    ]


def run_cell(cell: Cell) -> dict[str, Any]:
    """Replay a study of `budget` full trainings.

    Returns:
        After each trial: its epochs, last value and network (`course`), and what the study would
        have spent and come to, had it ended there with its best trained to the end (`ended`).
    """
    length = cell.case["max_resource"]
    table = curves_of(cell.sources[0]).cut(length)
    seed = derive(cell.seed, "method", table.name)
    sampler = make_sampler(cell.method["sampler"], seed=seed, space=table.space)
    pruner = make_pruner(cell.method["pruner"], max_resource=length, seed=seed)
    simulation = Simulation(table, pruner, seed=cell.seed, sampler=sampler)
    simulation.run(max_epochs=cell.budget * length)
    study = simulation.study
    trials = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.RUNNING]
    reports, ended = table.reports, []
    spent, best = 0, None
    reached: dict[int, int] = {}
    told = []
    for trial in trials:
        row, epochs = simulation.rows[trial.number], epochs_trained(trial)
        reached[row] = len(trial.intermediate_values)
        spent += epochs
        told.append([epochs, float(reports[row, reached[row] - 1]), root(trial)])
        if reached[row] == length:
            best = row if best is None else max(best, row, key=lambda r: reports[r, -1])
        closing, last = _closed(reports, reached, best)
        ended.append([spent + closing, round(float(table.values[last, -1]), 6)])
    return {"course": told, "ended": ended}


def _closed(reports: np.ndarray, reached: dict[int, int], best: int | None) -> tuple[int, int]:
    """Epochs until no configuration is ahead of the `best` that was trained to the end, and that.

    Args:
        reports: (n, T) what is reported of each configuration.
        reached: Epochs of each that has begun.
        best: The best that has T, if any.
    """
    spent, length, reached = 0, reports.shape[1], dict(reached)
    while True:
        last = {row: float(reports[row, n - 1]) for row, n in reached.items() if n < length}
        leader = max(last, key=lambda row: last[row], default=None)
        if leader is None or best is not None and last[leader] <= reports[best, -1]:
            assert best is not None
            return spent, best
        spent += length - reached[leader]
        reached[leader] = length
        best = leader if best is None else max(best, leader, key=lambda r: reports[r, -1])


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A record for each sampler, pruner and task, and for each of their groups.

    Of `studies` it tells, in the mean and its standard error, the points `lost` (hundredths of
    the objective), those lost had all ended at the same share of their budget in the mean
    (`blind`), and the share `spent`; and how many `lost_little`, at most `MOST_LOST` points,
    `spent_half` at most, or did both. Knowing the future, `could` do both. Means of a group are
    over its tasks.
    """
    methods: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        methods[run.method["sampler"], run.method["pruner"]].append(run)
    return [
        {"sampler": sampler, "pruner": pruner, **record}
        for (sampler, pruner), members in sorted(methods.items())
        for record in _of_method(members)
    ]


def _of_method(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    costs = [[cost for cost, _ in run.results["ended"]] for run in runs]
    flat = [_flat_at(run) for run in runs]
    spent = [cost[n] / cost[-1] for cost, n in zip(costs, flat, strict=True)]
    share = np.mean(spent)
    blind = [int(np.argmax(np.array(cost) >= share * cost[-1])) for cost in costs]
    groups: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for run, cost, *ends, at in zip(runs, costs, flat, blind, spent, strict=True):
        values = [value for _, value in run.results["ended"]]
        by_half = [v for v, c in zip(values, cost, strict=True) if c <= 0.5 * cost[-1]]
        ended = [*(values[n] for n in ends), max(by_half)]
        lost, lost_blind, least = (100 * (values[-1] - value) for value in ended)
        result = [lost, lost_blind, at, least]
        for group in ("all", group_of(family_of(run.sources[0])), run.case["task"]):
            groups[group][run.case["task"]].append(result)
    for group, tasks in groups.items():
        every = np.concatenate([*tasks.values()])
        units = np.array([np.mean(results, axis=0) for results in tasks.values()])
        units = every if len(units) == 1 else units
        record: dict[str, Any] = {"group": group, "studies": len(every)}
        for name, column in zip(("lost", "blind", "spent"), units.T[:3], strict=True):
            error = float(column.std(ddof=1) / len(column) ** 0.5) if len(column) > 1 else None
            record |= {name: float(column.mean()), f"{name}_se": error}
        little, _, half, could = (every <= [MOST_LOST + 1e-9, 0, 0.5, MOST_LOST + 1e-9]).T
        good = {"lost_little": little, "spent_half": half, "both": little & half, "could": could}
        yield record | {name: float(column.mean()) for name, column in good.items()}


def _flat_at(run: Run) -> int:
    """Index of the trial after which a run is flat, or of its last."""
    limit = Budget(epochs=run.budget * run.case["max_resource"])
    spent: dict[int, int] = defaultdict(int)
    ends: dict[int, tuple[float, bool]] = {}
    for n, (epochs, value, network) in enumerate(run.results["course"]):
        spent[network] += epochs
        ends[network] = (value, spent[network] == run.case["max_resource"])
        state = Progress(n + 1, 0, 0, 0, 0, 0, sum(spent.values()), 0.0, None)
        foreseen = outlook(limit, state, list(ends.values()))
        if foreseen is not None and foreseen.is_flat:
            return n
    return len(run.results["course"]) - 1

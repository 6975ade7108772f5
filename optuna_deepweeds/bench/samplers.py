"""One run of a sampler on a problem, and the grid of them.

A run's study is asked and told like any user's; what it is told, the noise of a table
included, depends on (seed, task, number of the evaluation) alone, so all samplers meet the same
luck. The course of a run is the state of its incumbent, the configuration with the best value
told so far, at the reporting budgets and whenever it changes.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from optuna_deepweeds.bench import priors
from optuna_deepweeds.bench.methods import make_sampler, parse
from optuna_deepweeds.bench.priors import NO_PRIORS
from optuna_deepweeds.bench.problems import Problem, load_problem
from optuna_deepweeds.bench.results import Cell
from optuna_deepweeds.bench.smac import SmacSampler
from optuna_deepweeds.samplers import PriorSource, portfolio
from optuna_deepweeds.seeds import generator

BUDGETS = (5, 10, 25, 50, 75, 100)
"""Numbers of evaluations at which every run leaves an entry."""


def grid(
    tasks: Sequence[str],
    samplers: Sequence[str],
    seeds: Sequence[int],
    *,
    budget: int,
    given: str = NO_PRIORS,
) -> list[Cell]:
    """Every combination as a cell, seeds slowest.

    Args:
        tasks: Names of problems.
        samplers: Descriptions, see `methods.parse`.
        seeds: Of order and noise.
        budget: Evaluations.
        given: Priors of all samplers, as `priors.parse` reads them.
    """
    return [
        Cell({"task": task}, {"sampler": sampler, "priors": given}, seed, budget)
        for seed in seeds
        for task in tasks
        for sampler in samplers
    ]


def make_study(cell: Cell, problem: Problem, *, smac_python: str | None = None) -> optuna.Study:
    """An in-memory study with the sampler of a cell, seeded from its task and seed."""
    text, given = cell.method["sampler"], cell.method["priors"]
    name, options = parse(text)
    seed = int(generator(cell.seed, "sampler", problem.name).integers(2**31))
    enqueued: Sequence[Mapping[str, Any]] = ()
    sources: list[PriorSource] = []
    if given != NO_PRIORS:
        kind, n_enqueued = priors.parse(given)
        sources = priors.sources(problem.name, seed=cell.seed, kind=kind)
        enqueued = portfolio(sources, problem.space.distributions, n_enqueued, problem.space)
    sampler: optuna.samplers.BaseSampler
    if name == "smac" and not sources:
        sampler = SmacSampler(
            problem.space, seed=seed, n_trials=cell.budget, python=smac_python, options=options
        )
    else:
        space = problem.space if problem.is_conditional else None
        sampler = make_sampler(text, seed=seed, space=space, priors=sources)
    study = optuna.create_study(sampler=sampler, direction=problem.direction)
    for params in enqueued:
        study.enqueue_trial(dict(params))
    return study


def run_cell(cell: Cell, smac_python: str | None = None) -> dict[str, Any]:
    """Run one cell.

    Returns:
        `course`, equally long lists: evaluations so far; value that was told of the incumbent
        (one noisy repeat); its true score; the share of all configurations that are strictly
        better; its regret (0 at the optimum, 1 at the median configuration); mean CPU
        milliseconds of a suggestion so far (ask, suggest and tell); its params.

    Raises:
        DeepWeedsError: A table or a sampler's package is missing.
    """
    problem = load_problem(cell.case["task"])
    noise = generator(cell.seed, "noise", problem.name).random(cell.budget)
    course: dict[str, list[Any]] = defaultdict(list)
    seconds, best_loss = 0.0, math.inf
    best: tuple[float, float, dict[str, Any]] = (math.nan, math.nan, {})
    study = make_study(cell, problem, smac_python=smac_python)
    smac = study.sampler if isinstance(study.sampler, SmacSampler) else None

    def clock() -> float:
        # Wall time would measure the machine's load.
        return time.process_time() + (smac.cpu_seconds if smac else 0.0)

    try:
        for n in range(1, cell.budget + 1):
            start = clock()
            trial = study.ask()
            problem.space.suggest(trial)
            seconds += clock() - start
            params = trial.params
            value = problem.evaluate(params, float(noise[n - 1]))
            start = clock()
            study.tell(trial, value)
            seconds += clock() - start
            has_improved = problem.sign * value < best_loss
            if has_improved:
                best_loss, best = problem.sign * value, (value, problem.score(params), params)
            if has_improved or n in BUDGETS or n == cell.budget:
                told, score, config = best
                entry = {
                    "evaluations": n,
                    "value": told,
                    "score": score,
                    "fraction": problem.fraction_better(score),
                    "regret": problem.regret(score),
                    "milliseconds": round(1000 * seconds / n, 3),
                    "params": config,
                }
                for name, entry_value in entry.items():
                    course[name].append(entry_value)
    finally:
        if smac:
            smac.close()
    return {"course": dict(course)}

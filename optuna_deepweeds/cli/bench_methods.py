"""`bench samplers`, `fcnet` and `cost`: samplers compared on tables."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from optuna_deepweeds.cli._bench import (
    counts,
    names,
    option,
    output_option,
    processes_option,
    seeds_option,
    tell,
    with_errors,
)
from optuna_deepweeds.cli._output import emit, format_option, info

_QUICK_BUDGET = 15
_COST_TASK = "protein_structure"


@click.command()
@names(
    "--tasks",
    default="fcnet",
    help="Families (fcnet, hpobench, nasbench201: tables of real trainings; grids, cells: "
    "generated tables; synthetic: functions) or tasks, separated by commas.",
)
@names(
    "--samplers",
    "sampler_names",
    default="random,tpe,rf_ei",
    help="Samplers, separated by commas: random, tpe, gp, rf_ei, dngo, smac; with options as "
    "rf_ei:n_trees=30 (space=False hides the conditions of a space).",
)
@seeds_option(default="20")
@option("--budget", default=100, type=click.IntRange(min=1))
@processes_option
@output_option(default=Path("bench_samplers.jsonl"))
@option(
    "--priors",
    default="none",
    metavar="KIND",
    help="Give the samplers (rf_ei, dngo) trials of the other tasks of the family, as `bench "
    "pruners --priors`.",
)
@click.option("--smac-python", help="Interpreter of an environment with SMAC3 (sampler smac).")
@click.option("--quick", is_flag=True, help="At most 2 seeds and 15 evaluations.")
@click.option(
    "--summarise",
    "only_summarise",
    is_flag=True,
    help="Run nothing; read --output, with all seeds in it.",
)
@counts(
    "--after",
    help="Numbers of evaluations to summarise, separated by commas; default: the last two of "
    "5, 10, 25, 50, 100 within the budget.",
)
@option(
    "--reference",
    default="tpe",
    help="The sampler of the columns ratio and reach; with --priors, the sampler itself gives "
    "the head start and the harm.",
)
@click.option("--by-task", is_flag=True, help="Summarise each task as well.")
@format_option
def samplers(
    tasks: list[str],
    sampler_names: list[str],
    seeds: range,
    budget: int,
    processes: int,
    output: Path,
    priors: str,
    smac_python: str | None,
    quick: bool,
    only_summarise: bool,
    after: list[int] | None,
    reference: str,
    by_task: bool,
    fmt: str,
) -> None:
    """Run samplers on problems, save a line per task, sampler and seed, and compare.

    The summary gives, with bootstrap errors over seeds: the geometric mean of the fraction of
    configurations strictly better (in 1e-4) and its ratio to TPE's, the normalised regret (0 at
    the optimum, 1 at the median), evaluations to reach TPE's final result, CPU milliseconds
    a suggestion, and the probability P of beating each other sampler.
    """
    from optuna_deepweeds.bench import problems, results, runner, summary
    from optuna_deepweeds.bench import samplers as bench

    chosen = problems.resolve_tasks(tasks)
    if quick:
        seeds, budget = seeds[:2], min(budget, _QUICK_BUDGET)
    if not only_summarise:
        cells = bench.grid(chosen, sampler_names, seeds, budget=budget, given=priors)
        execute = partial(bench.run_cell, smac_python=smac_python)
        runner.run(cells, execute, output, processes=processes, on_run=tell)
    runs = [run for run in results.read(output) if run.case["task"] in chosen]
    records = summary.summarise_samplers(
        runs,
        budgets=after or [*(b for b in (5, 10, 25, 50, 100) if b < budget), budget][-2:],
        reference=reference,
        by_task=by_task,
    )
    if fmt == "table":
        records = [with_errors(record) for record in records]
    emit(records, fmt=fmt)


@click.command()
@names(
    "--samplers",
    "sampler_names",
    default="random,tpe,rf_ei",
    help="As of `bench samplers`, without smac.",
)
@counts("--trials", default="200,1000,5000,10000", help="Sizes of the study, separated by commas.")
@format_option
def cost(sampler_names: list[str], trials: list[int], fmt: str) -> None:
    """Measure what a suggestion costs as a study grows: CPU milliseconds and memory.

    Each sampler lives in a process of its own through one study that is filled with random
    trials up to each size. The trials themselves take memory; compare with `random`, which
    keeps none.
    """
    from optuna_deepweeds.bench.cost import of_suggestions

    records = [r for label in sampler_names for r in of_suggestions(_COST_TASK, label, trials)]
    emit(records, fmt=fmt)


@click.command()
@option(
    "--output",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bench_fcnet"),
    help="Directory of the runs (runs.jsonl) and the figures; finished runs in it are not run "
    "again.",
)
@processes_option
@click.option("--quick", is_flag=True, help="3 runs of 15 and 2 of 20 evaluations.")
@format_option
def fcnet(directory: Path, processes: int, quick: bool, fmt: str) -> None:
    """Reproduce the FCNet report: random search, forest and DNGO on protein structure.

    Draws the mean and spread of the incumbent over 50 runs of 50 evaluations for each, and of
    all three over 30 runs of 100 evaluations, and prints the best configurations beside the
    published ones. Ours are validation errors: the mean of the table's four repeats. The
    published errors are said to be test errors, so compare `valid_mse` with `its_valid_mse`,
    the table's mean for the published configuration.
    """
    from optuna_deepweeds.bench import fcnet as report
    from optuna_deepweeds.bench import results, runner
    from optuna_deepweeds.bench.samplers import run_cell

    plan = report.QUICK if quick else report.Plan()
    path = directory / ("runs_quick.jsonl" if quick else "runs.jsonl")
    for budget in (plan.long, plan.short):
        runner.run(plan.cells(budget), run_cell, path, processes=processes, on_run=tell)
    runs = results.read(path)
    for figure in report.draw(runs, plan, directory):
        info(f"drew {figure}")
    emit(report.best_configurations(runs, plan), fmt=fmt)

"""`bench samplers` and `bench fcnet`: samplers on tables and synthetic problems."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from optuna_deepweeds.bench.results import CellKey
from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.errors import InvalidInputError

_QUICK_BUDGET = 15


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_seeds(text: str) -> list[int]:
    """`N` means 0 to N-1, `a-b` means a to b, both ends included."""
    first, dash, last = text.partition("-")
    try:
        seeds = range(int(first), int(last) + 1) if dash else range(int(first))
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise InvalidInputError(
            f"seeds are a number (20: seeds 0 to 19) or a range (20-39), but got {text!r}."
        )
    return list(seeds)


@click.command()
@click.option(
    "--tasks",
    default="fcnet",
    show_default=True,
    help="Families (fcnet, hpobench, nasbench201: tables of real trainings; grids, cells: "
    "generated tables; synthetic: functions) or tasks, separated by commas.",
)
@click.option(
    "--samplers",
    "sampler_names",
    default="random,tpe,rf_ei",
    show_default=True,
    help="Samplers, separated by commas: random, tpe, gp, rf_ei, dngo, smac; with options as "
    "rf_ei:n_trees=30 (space=False hides the conditions of a space).",
)
@click.option("--seeds", default="20", show_default=True, help="How many seeds, or a range a-b.")
@click.option("--budget", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("bench_samplers.csv"),
    show_default=True,
    help="CSV file; finished runs in it are not run again.",
)
@click.option(
    "--priors",
    type=click.Choice(["good", "negated", "shuffled", "none"]),
    default="none",
    show_default=True,
    help="Give the samplers (rf_ei, dngo) trials of the other tasks of the family, honest, or "
    "with negated or shuffled values.",
)
@click.option(
    "--enqueue-best",
    "n_enqueued",
    default=3,
    show_default=True,
    type=click.IntRange(min=0),
    help="With priors: how many of their best configurations to evaluate first.",
)
@click.option("--smac-python", help="Interpreter of an environment with SMAC3 (sampler smac).")
@click.option("--quick", is_flag=True, help="At most 2 seeds and 15 evaluations.")
@click.option(
    "--summarise",
    "only_summarise",
    is_flag=True,
    help="Run nothing; read --output, with all seeds in it.",
)
@click.option(
    "--after",
    help="Numbers of evaluations to summarise, separated by commas; default: the last two of "
    "5, 10, 25, 50, 100 within the budget.",
)
@click.option(
    "--reference",
    default="tpe",
    show_default=True,
    help="The sampler of the columns ratio and reach; with --priors, the sampler itself gives "
    "the head start and the harm.",
)
@click.option("--by-task", is_flag=True, help="Summarise each task as well.")
@format_option
def samplers(
    tasks: str,
    sampler_names: str,
    seeds: str,
    budget: int,
    processes: int,
    output: Path,
    priors: str,
    n_enqueued: int,
    smac_python: str | None,
    quick: bool,
    only_summarise: bool,
    after: str | None,
    reference: str,
    by_task: bool,
    fmt: str,
) -> None:
    """Run samplers on problems, save a row per task, sampler, seed and budget, and compare.

    The summary gives, with bootstrap errors over seeds: the geometric mean of the fraction of
    configurations strictly better (in 1e-4) and its ratio to TPE's, the normalised regret (0 at
    the optimum, 1 at the median), evaluations to reach TPE's final result, CPU milliseconds
    a suggestion, and the probability P of beating each other sampler.
    """
    from optuna_deepweeds.bench import problems, results, summary
    from optuna_deepweeds.bench.samplers import Setting, run

    chosen = problems.resolve_tasks(_names(tasks))
    labels = _names(sampler_names)
    numbers = parse_seeds(seeds)
    if quick:
        numbers, budget = numbers[:2], min(budget, _QUICK_BUDGET)
    if not only_summarise:
        given = "none" if priors == "none" else f"{priors}/{n_enqueued}"
        keys = [
            CellKey(task, label, given, seed)
            for seed in numbers
            for task in chosen
            for label in labels
        ]
        run(
            keys,
            Setting(budget, smac_python),
            output,
            processes=processes,
            on_cell=_tell_progress,
        )
    rows = [row for row in results.read(output) if row.task in chosen]
    measures = summary.summarise(
        rows, budgets=_budgets(after, budget), reference=reference, by_task=by_task
    )
    records = [measure.as_row() for measure in measures]
    if fmt == "table":
        records = [_with_errors(record) for record in records]
    emit(records, columns=list(dict.fromkeys(c for r in records for c in r)), fmt=fmt)


def _budgets(after: str | None, budget: int) -> list[int]:
    """Evaluations to summarise: as asked for, else the last two of the usual ones."""
    if after is None:
        return [*(b for b in (5, 10, 25, 50, 100) if b < budget), budget][-2:]
    return _whole_numbers(after, "--after")


def _whole_numbers(text: str, option: str) -> list[int]:
    """Positive whole numbers separated by commas."""
    try:
        numbers = [int(n) for n in _names(text)]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise InvalidInputError(f"{option} takes whole numbers like 50,100, but got {text!r}.")
    return numbers


def _tell_progress(key: CellKey, n: int, total: int) -> None:
    info(f"[{n}/{total}] {key.task} {key.sampler} seed {key.seed}")


def _with_errors(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record for people: every figure and its standard error in one column."""
    merged: dict[str, Any] = {}
    for name, value in record.items():
        if name.endswith("_se"):
            continue
        error = record.get(f"{name}_se")
        if error is None or not math.isfinite(value):
            merged[name] = value
        else:
            merged[name] = f"{value:.3g} ±{error:.2g}" if math.isfinite(error) else f"{value:.3g}"
    return merged


@click.command()
@click.option(
    "--samplers",
    "sampler_names",
    default="random,tpe,rf_ei",
    show_default=True,
    help="As of `bench samplers`, without smac.",
)
@click.option("--task", default="protein_structure", show_default=True)
@click.option(
    "--trials",
    default="200,1000,5000,10000",
    show_default=True,
    help="Sizes of the study, separated by commas.",
)
@format_option
def cost(sampler_names: str, task: str, trials: str, fmt: str) -> None:
    """Measure what a suggestion costs as a study grows: CPU milliseconds and memory.

    Each sampler lives in a process of its own through one study that is filled with random
    trials up to each size. The trials themselves take memory; compare with `random`, which
    keeps none.
    """
    from optuna_deepweeds.bench import cost as costs
    from optuna_deepweeds.bench import problems

    sizes = _whole_numbers(trials, "--trials")
    (name,) = problems.resolve_tasks([task])
    records = [
        record for label in _names(sampler_names) for record in costs.measure(name, label, sizes)
    ]
    emit(records, columns=list(records[0]), fmt=fmt)


@click.command()
@click.option(
    "--output",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("bench_fcnet"),
    show_default=True,
    help="Directory of the runs (runs.csv), the figures and the table; finished runs in it are "
    "not run again.",
)
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1))
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
    from optuna_deepweeds.bench import results
    from optuna_deepweeds.bench.samplers import Setting, run

    plan = report.QUICK if quick else report.Plan()
    runs = directory / ("runs_quick.csv" if quick else "runs.csv")
    for budget in (plan.long, plan.short):
        run(plan.cells(budget), Setting(budget), runs, processes=processes, on_cell=_tell_progress)
    rows = results.read(runs)
    for path in report.draw(rows, plan, directory):
        info(f"drew {path}")
    records = report.best_configurations(rows, plan)
    results.write_records(directory / "best_configurations.csv", records)
    emit(records, columns=list(records[0]), fmt=fmt)

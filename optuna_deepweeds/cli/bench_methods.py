"""`bench samplers`, `pruners`, `fcnet` and `cost`: methods compared on tables and curves."""

from __future__ import annotations

import glob
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.schema import choose

if TYPE_CHECKING:
    from optuna_deepweeds.bench.results import Cell

_QUICK_BUDGET = 15
_N_ENQUEUED = 3
_COST_TASK = "protein_structure"
_PRUNERS = "none,median,hyperband,asha-default,asha-3-1,promotion-3,promotion-4,dora,dora-thaw"
_QUICK_PRUNERS = "none,asha-3-1,dora"

_file = click.Path(dir_okay=False, path_type=Path)


def _listed(
    kind: Callable[[str], Any], *, least: float = -math.inf, below: float = math.inf
) -> Callable[..., Any]:
    """A callback that reads values separated by commas, each within [least, below)."""

    def parse(ctx: click.Context, param: click.Parameter, text: str | None) -> list[Any] | None:
        if text is None:
            return None
        try:
            values = [kind(item.strip()) for item in text.split(",") if item.strip()]
        except ValueError:
            values = []
        if not values or (kind is not str and not all(least <= v < below for v in values)):
            what = {int: "whole numbers", float: "numbers"}.get(kind, "names")  # type: ignore[call-overload]
            limits = f" from {least:g} on" if least > -math.inf else ""
            limits += f", below {below:g}" if below < math.inf else ""
            raise click.BadParameter(f"must be {what}{limits} separated by commas, got {text!r}.")
        return values

    return parse


option = partial(click.option, show_default=True)
_names = partial(option, callback=_listed(str))
_counts = partial(option, callback=_listed(int, least=1))


def parse_seeds(ctx: click.Context | None, param: click.Parameter | None, text: str) -> range:
    """`N` means 0 to N-1, `a-b` means a to b, both ends included."""
    first, dash, last = text.partition("-")
    try:
        seeds = range(int(first), int(last) + 1) if dash else range(int(first))
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise click.BadParameter(
            f"seeds are a number (20: seeds 0 to 19) or a range (20-39), but got {text!r}."
        )
    return seeds


seeds_option = partial(
    option, "--seeds", callback=parse_seeds, help="How many seeds, or a range a-b."
)
"""`seeds_option(default="3")` adds `--seeds`, passed on as a range."""

_processes = option("--processes", default=1, type=click.IntRange(min=1), help="Runs at a time.")


@click.command()
@_names(
    "--tasks",
    default="fcnet",
    help="Families (fcnet, hpobench, nasbench201: tables of real trainings; grids, cells: "
    "generated tables; synthetic: functions) or tasks, separated by commas.",
)
@_names(
    "--samplers",
    "sampler_names",
    default="random,tpe,rf_ei",
    help="Samplers, separated by commas: random, tpe, gp, rf_ei, dngo, smac; with options as "
    "rf_ei:n_trees=30 (space=False hides the conditions of a space).",
)
@seeds_option(default="20")
@option("--budget", default=100, type=click.IntRange(min=1))
@_processes
@option(
    "--output",
    type=_file,
    default=Path("bench_samplers.jsonl"),
    help="Results file (JSON lines); finished runs in it are not run again.",
)
@option(
    "--priors",
    type=click.Choice(["good", "negated", "shuffled", "none"]),
    default="none",
    help="Give the samplers (rf_ei, dngo) trials of the other tasks of the family, honest, or "
    "with negated or shuffled values; the best three are evaluated first.",
)
@click.option("--smac-python", help="Interpreter of an environment with SMAC3 (sampler smac).")
@click.option("--quick", is_flag=True, help="At most 2 seeds and 15 evaluations.")
@click.option(
    "--summarise",
    "only_summarise",
    is_flag=True,
    help="Run nothing; read --output, with all seeds in it.",
)
@_counts(
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
        given = bench.NO_PRIORS if priors == "none" else f"{priors}/{_N_ENQUEUED}"
        cells = bench.grid(chosen, sampler_names, seeds, budget=budget, given=given)
        execute = partial(bench.run_cell, smac_python=smac_python)
        runner.run(cells, execute, output, processes=processes, on_run=_tell)
    runs = [run for run in results.read(output) if run.case["task"] in chosen]
    records = summary.summarise_samplers(
        runs,
        budgets=after or [*(b for b in (5, 10, 25, 50, 100) if b < budget), budget][-2:],
        reference=reference,
        by_task=by_task,
    )
    if fmt == "table":
        records = [_with_errors(record) for record in records]
    emit(records, fmt=fmt)


def _tell(cell: Cell, n: int, total: int) -> None:
    info(f"[{n}/{total}] {cell}")


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


def _telling(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], given: Sequence[str]
) -> tuple[str, ...]:
    """The columns that hold anything; of `given` ones those in which rows differ."""
    found = {name: {row[name] for row in rows if row.get(name) is not None} for name in columns}
    return tuple(name for name in columns if len(found[name]) > (name in given))


@click.command()
@click.option(
    "--curves",
    "patterns",
    multiple=True,
    metavar="SOURCE",
    help="Learning curves: a TaskSet .npz, one of `bench record-curves`, a prior file .csv, "
    "URL#STUDY, or a pattern such as 'taskset/*.npz'. The folder names the family. May be given "
    "several times.",
)
@click.option(
    "--families",
    callback=_listed(str),
    help="Generated families (power, plateau, crossing, misleading, broken, diverging, late), or "
    "development or left-out for all of a group. With --curves, these select among them too.",
)
@_names(
    "--pruners",
    default=_PRUNERS,
    help="Pruners, separated by commas, with options as dora:min_resource=2.",
)
@_names(
    "--samplers",
    default="random",
    help="What chooses configurations for each of them: random, tpe, gp, rf_ei, dngo, bohb (a "
    "density ratio), with options. rf_ei, dngo and bohb choose among the rows of the table; for "
    "others the nearest row is taken.",
)
@_counts("--workers", default="1")
@seeds_option(default="20")
@_counts(
    "--max-resource",
    "max_resources",
    help="Epochs of a full training, longer curves are cut; the curves' length by default.",
)
@_counts(
    "--budgets",
    default="2,3,5,8,10,15,20,30",
    help="Full trainings after which regret is taken; `regret` is the mean from 8 on, `early` "
    "that before.",
)
@option(
    "--reference",
    default="random+promotion-4",
    help="Sampler and pruner that the column ratio compares with.",
)
@option(
    "--noise",
    "noises",
    default="0",
    callback=_listed(float, least=0.0),
    help="Standard deviation of normal noise on every report.",
)
@option(
    "--mislead",
    "misleads",
    default="0",
    callback=_listed(float, least=0.0, below=1.0),
    help="Share of the first epochs in which the order of the configurations is reversed.",
)
@_names(
    "--prior-curves",
    default="none",
    metavar="KIND,...",
    help="Curves that dora and dora-thaw are given beforehand: none; same (100 configurations of "
    "the task without their best fifth); related (100 of each other task in --curves); or "
    "misleading ones: shifted (same, .3 too high), lowered (.3 too low), negated (upside down). "
    "Configurations whose curves may be given are replayed in no run, and none is always run, "
    "so that the effect is paired.",
)
@_processes
@click.option(
    "--decision-cost",
    "cost_at",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure only what a decision costs on SQLite once N trials are stored, on the first "
    "curves.",
)
@click.option(
    "--output",
    type=_file,
    help="Results file (JSON lines) of all runs; those already in it are not run again.",
)
@click.option(
    "--per-task", is_flag=True, help="Print the tasks' rows too, not only those of families."
)
@click.option("--quick", is_flag=True, help="Few pruners and 3 seeds: a look, no result.")
@format_option
def pruners(
    patterns: tuple[str, ...],
    families: list[str] | None,
    pruners: list[str],
    seeds: range,
    max_resources: list[int] | None,
    budgets: list[int],
    reference: str,
    processes: int,
    cost_at: int | None,
    output: Path | None,
    per_task: bool,
    quick: bool,
    fmt: str,
    **grid: Any,
) -> None:
    """Compare pruners, under samplers, on recorded and generated learning curves.

    Every pruner sees the same configurations in the same order through a real Optuna study, with
    simulated asynchronous workers; a sampler chooses among the configurations that are left.
    Regret is 0 for the best configuration of the table and 1 for knowing nothing. Means and their
    errors are over the families of a group, the tasks of a family, the seeds of a task. The
    summary is computed from the results file; with prior curves it shows what they change
    (vs_cold: below 0 where they help).
    """
    from optuna_deepweeds.bench import pruners as bench
    from optuna_deepweeds.bench import results, runner, summary

    sources = _sources(_expand(patterns), families)
    if quick:
        pruners = _QUICK_PRUNERS.split(",") if pruners == _PRUNERS.split(",") else pruners
        seeds = seeds[:3]
    if cost_at is not None:
        from optuna_deepweeds.bench.cost import of_decisions
        from optuna_deepweeds.bench.families import curves_of

        curves = curves_of(sources[0])
        curves = curves.cut(max_resources[0]) if max_resources else curves
        rows = [of_decisions(curves, name, cost_at, seed=seeds[0]) for name in pruners]
        emit(rows, fmt=fmt)
        return
    cells = bench.grid(
        sources,
        pruners,
        max_resources=max_resources or (),
        budget=max(budgets),
        seeds=seeds,
        **grid,
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = output or Path(scratch) / "runs.jsonl"
        runner.run(cells, bench.run_cell, path, processes=processes, on_run=_tell)
        runs = results.read(path)
    sampler, plus, pruner = reference.partition("+")
    if not plus:
        raise InvalidInputError(f"--reference must be SAMPLER+PRUNER, but got {reference!r}.")
    table = summary.summarise_pruners(
        runs, budgets=budgets, reference=(sampler, pruner), by_task=per_task
    )
    is_warm = any(run.method["prior_curves"] != bench.NO_PRIORS for run in runs)
    columns = (summary.warm_start_columns if is_warm else summary.pruner_columns)(budgets)
    if fmt == "table":
        table = [_with_errors(row) for row in table]
        columns = _telling(table, columns, (*summary.SETTING, *summary.ENTRY))
    emit(table, columns=columns, fmt=fmt)


def _sources(files: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """The files, and the generated tasks, of the families or groups; without any the files."""
    from optuna_deepweeds.bench.families import GROUPS, TASKS, family_of, group_of

    if names is None:
        if not files:
            raise InvalidInputError("--curves or --families must name what is replayed.")
        return list(files)
    for name in names:
        choose("family", name, [*GROUPS, *TASKS, *dict.fromkeys(map(family_of, files))])
    every = [*files, *(task for tasks in TASKS.values() for task in tasks)]
    return [s for s in every if {family_of(s), group_of(family_of(s))} & {*names}]


def _expand(sources: Sequence[str]) -> list[str]:
    """Patterns replaced by the files they match; anything else as it is."""
    expanded: list[str] = []
    for source in sources:
        if "://" in source or not glob.has_magic(source):
            expanded.append(source)
        elif matches := sorted(glob.glob(source)):
            expanded += matches
        else:
            raise InvalidInputError(f"--curves must match at least one file, but got {source!r}.")
    return list(dict.fromkeys(expanded))


@click.command()
@_names(
    "--samplers",
    "sampler_names",
    default="random,tpe,rf_ei",
    help="As of `bench samplers`, without smac.",
)
@_counts(
    "--trials", default="200,1000,5000,10000", help="Sizes of the study, separated by commas."
)
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
@_processes
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
        runner.run(plan.cells(budget), run_cell, path, processes=processes, on_run=_tell)
    runs = results.read(path)
    for figure in report.draw(runs, plan, directory):
        info(f"drew {figure}")
    emit(report.best_configurations(runs, plan), fmt=fmt)

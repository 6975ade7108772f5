"""`bench pruners` and `record-curves`: methods compared on learning curves."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from optuna_deepweeds.cli._bench import (
    counts,
    listed,
    names,
    option,
    output_file,
    output_option,
    processes_option,
    seeds_option,
    tell,
    with_errors,
)
from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.cli.report import require_plots
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.schema import choose

_PRUNERS = "none,median,hyperband,asha-default,asha-3-1,promotion-3,promotion-4,dora,dora-thaw"
_QUICK_PRUNERS = "none,asha-3-1,dora"


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
    callback=listed(str),
    help="Generated families (power, plateau, crossing, misleading, broken, diverging, late), or "
    "development or left-out for all of a group. With --curves, these select among them too.",
)
@names(
    "--pruners",
    default=_PRUNERS,
    help="Pruners, separated by commas, with options as dora:min_resource=2; dyhpo chooses "
    "configurations itself.",
)
@names(
    "--samplers",
    default="random",
    help="What chooses configurations for each of them: random, tpe, gp, rf_ei, dngo, bohb (a "
    "density ratio), with options. rf_ei, dngo and bohb choose among the rows of the table; for "
    "others the nearest row is taken.",
)
@counts("--workers", default="1")
@seeds_option(default="20")
@counts(
    "--max-resource",
    "max_resources",
    help="Epochs of a full training, longer curves are cut; the curves' length by default.",
)
@counts(
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
    callback=listed(float, least=0.0),
    help="Standard deviation of normal noise on every report.",
)
@names(
    "--priors",
    "given",
    default="none",
    metavar="KIND,...",
    help="What rf_ei and dngo are given beforehand of the other tasks of the family, 100 trials "
    "each: well (as they are), medium or mislead (without the fifth or half that is best here), "
    "deceive (values turned around), unrelated (dealt out at random). They begin with a portfolio "
    "of those, of 3 with well/3. They run without, too, so that the effect is paired.",
)
@click.option("--dyhpo-python", help="Interpreter of an environment with Syne Tune (dyhpo).")
@processes_option
@click.option(
    "--decision-cost",
    "cost_at",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure only what a decision costs on SQLite once N trials are stored, on the first "
    "curves.",
)
@output_option()
@click.option(
    "--png",
    type=output_file,
    metavar="FILE",
    help="With --priors, draw how good the best network is against epochs.",
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
    dyhpo_python: str | None,
    processes: int,
    cost_at: int | None,
    output: Path | None,
    png: Path | None,
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
    summary is computed from the results file; with priors it shows what they change (vs_cold:
    below 0 where they help).
    """
    from optuna_deepweeds.bench import pruners as bench
    from optuna_deepweeds.bench import results, runner
    from optuna_deepweeds.bench import summary_curves as summary
    from optuna_deepweeds.bench.methods import DYHPO, PRUNERS, SAMPLERS

    if png is not None:
        require_plots()
    sources = _sources(_expand(patterns), families)
    sampler, _, pruner = reference.partition("+")
    choose("sampler of --reference", sampler.partition(":")[0], (*SAMPLERS, DYHPO))
    choose("pruner of --reference", pruner.partition(":")[0], (*PRUNERS, DYHPO))
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
        execute = partial(bench.run_cell, dyhpo_python=dyhpo_python)
        runner.run(cells, execute, path, processes=processes, on_run=tell)
        runs = results.read(path)
    table = summary.summarise_pruners(
        runs, budgets=budgets, reference=(sampler, pruner), by_task=per_task
    )
    if png is not None:
        from optuna_deepweeds.bench.warm_figure import draw
        from optuna_deepweeds.report.draw_png import new_figure, save

        figure = new_figure(7.2, 4.2)
        draw([run for run in runs if run.budget >= max(budgets)], max(budgets), figure)
        save(figure, png)
    is_warm = any(run.method["priors"] != bench.NO_PRIORS for run in runs)
    columns = (summary.warm_start_columns if is_warm else summary.pruner_columns)(budgets)
    if fmt == "table":
        table = [with_errors(row) for row in table]
        columns = _telling(table, columns, (*summary.SETTING, *summary.ENTRY))
    emit(table, columns=columns, fmt=fmt)


@click.command()
@click.option(
    "--curves",
    "patterns",
    multiple=True,
    required=True,
    metavar="SOURCE",
    help="Learning curves as for `bench pruners`, or a generated task such as power_1.",
)
@names("--samplers", default="rf_ei,random", help="As for `bench pruners`.")
@names("--pruners", default="dora-thaw,none", help="As for `bench pruners`.")
@option("--max-resource", default=10, type=click.IntRange(min=2), help="Epochs of a training.")
@option(
    "--budget", default=100, type=click.IntRange(min=20), help="Full trainings of a whole study."
)
@seeds_option(default="3")
@processes_option
@output_option()
@format_option
def ending(
    patterns: tuple[str, ...],
    seeds: range,
    processes: int,
    output: Path | None,
    fmt: str,
    **settings: Any,
) -> None:
    """Measure what `--stop-when flat` loses and saves against the full budget.

    Studies on learning curves are replayed whole; what they would have come to, had they ended
    where they became flat, with their best trained to the end, is read from their course.
    """
    from optuna_deepweeds.bench import ending as bench
    from optuna_deepweeds.bench import results, runner

    cells = bench.grid(_expand(patterns), seeds=seeds, **settings)
    with tempfile.TemporaryDirectory() as scratch:
        path = output or Path(scratch) / "runs.jsonl"
        runner.run(cells, bench.run_cell, path, processes=processes, on_run=tell)
        table = bench.summarise(results.read(path))
    emit([with_errors(row) for row in table] if fmt == "table" else table, fmt=fmt)


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
    from optuna_deepweeds.bench.families import TASKS

    generated = {task for tasks in TASKS.values() for task in tasks}
    expanded: list[str] = []
    for source in sources:
        if "://" in source or source in generated or Path(source).is_file():
            expanded.append(source)
        elif matches := sorted(glob.glob(source)):
            expanded += matches
        else:
            raise InvalidInputError(f"--curves must match at least one file, but got {source!r}.")
    return list(dict.fromkeys(expanded))


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--families",
    callback=listed(str),
    help="mlp, sgd, regression, boosting, recurrent; all by default.",
)
@option("--configs", default=500, type=click.IntRange(min=10), help="Configurations a table.")
def record_curves(folder: Path, families: list[str] | None, configs: int) -> None:
    """Record real learning curves in FOLDER/FAMILY/TASK.npz for `bench pruners --curves`.

    Small models are trained on data that scikit-learn brings or makes, some minutes of one core
    a table; the curves are the same on every run. Tables that are there already are left alone.
    """
    from optuna_deepweeds.bench.curves import save
    from optuna_deepweeds.bench.record import RECORDINGS, record

    chosen = {
        name: RECORDINGS[choose("family", name, RECORDINGS)] for name in families or RECORDINGS
    }
    for family, tasks in chosen.items():
        for task in tasks:
            path = folder / family / f"{task}.npz"
            if not path.exists():
                save(path, record(family, task, configs))
            info(str(path))

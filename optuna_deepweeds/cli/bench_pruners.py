"""`bench pruners`: recorded learning curves replayed through real pruners."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.errors import InvalidInputError

_DEFAULT_PRUNERS = "none,median,hyperband,asha-default,asha-3-1,promotion-3,dora,dora-thaw"
_QUICK_PRUNERS = "none,asha-3-1,dora"
_COST_COLUMNS = ("pruner", "trials", "decisions", "milliseconds", "median", "worst", "choice")


def _comma_list(kind: Callable[[str], Any]) -> Callable[..., Any]:
    def parse(ctx: click.Context, param: click.Parameter, text: str | None) -> list[Any]:
        try:
            return [kind(item.strip()) for item in (text or "").split(",") if item.strip()]
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            message = f"must be {what} separated by commas, but got {text!r}."
            raise click.BadParameter(message) from None

    return parse


@click.command()
@click.option(
    "--curves",
    "sources",
    multiple=True,
    required=True,
    metavar="SOURCE",
    help="Learning curves: a TaskSet .npz, a prior file .csv, URL#STUDY, or a pattern such as "
    "'taskset/*.npz'. May be given several times.",
)
@click.option(
    "--pruners",
    default=_DEFAULT_PRUNERS,
    show_default=True,
    help="Names separated by commas; dora and dora-thaw take options as dora:key=value; then "
    "separate pruners by semicolons.",
)
@click.option("--workers", default="1", show_default=True, callback=_comma_list(int))
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(min=1))
@click.option("--first-seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--max-resource",
    "max_resources",
    callback=_comma_list(int),
    help="Epochs of a full training, longer curves are cut; the curves' length by default.",
)
@click.option(
    "--budgets",
    default="10,15,20,30",
    show_default=True,
    callback=_comma_list(int),
    help="Full trainings after which regret is taken.",
)
@click.option(
    "--order",
    "orders",
    default="random",
    show_default=True,
    callback=_comma_list(str),
    help="How configurations are chosen: random or a sampler (rf_ei, tpe, gp).",
)
@click.option(
    "--noise",
    "noises",
    default="0",
    show_default=True,
    callback=_comma_list(float),
    help="Standard deviation of normal noise on every report.",
)
@click.option(
    "--mislead",
    "misleads",
    default="0",
    show_default=True,
    callback=_comma_list(float),
    help="Share of the first epochs in which the order of the configurations is reversed.",
)
@click.option(
    "--prior-curves",
    default="none",
    show_default=True,
    callback=_comma_list(str),
    metavar="KIND,...",
    help="Curves that dora and dora-thaw are given beforehand: none; same (100 configurations of "
    "the task without their best fifth); related (100 of each other task in --curves); or "
    "misleading ones: shifted (same, .3 too high), lowered (.3 too low), negated (upside down). "
    "Configurations whose curves may be given are replayed in no run, and none is always run, "
    "so that the effect is paired.",
)
@click.option("--processes", default=1, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--sqlite", is_flag=True, help="Studies in SQLite files: slower, with real times of decisions."
)
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
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file of all runs; those already in it are not run again.",
)
@click.option("--per-task", is_flag=True, help="Print the tasks' rows too, not only their mean.")
@click.option("--quick", is_flag=True, help="Few pruners and 3 seeds: a look, no result.")
@format_option
def pruners(
    sources: tuple[str, ...],
    pruners: str,
    workers: list[int],
    seeds: int,
    first_seed: int,
    max_resources: list[int],
    budgets: list[int],
    orders: list[str],
    noises: list[float],
    misleads: list[float],
    prior_curves: list[str],
    processes: int,
    sqlite: bool,
    cost_at: int | None,
    output: Path | None,
    per_task: bool,
    quick: bool,
    fmt: str,
) -> None:
    """Compare pruners on recorded learning curves.

    Every pruner sees the same configurations in the same order through a real Optuna study, with
    simulated asynchronous workers. Regret is 0 for the best configuration of the table and 1 for
    knowing nothing; it is averaged over the budgets. The summary is computed from the CSV file;
    with prior curves it shows what they change (vs_cold: below 0 where they help).
    """
    from optuna_deepweeds.bench import pruner_rows, pruner_summary
    from optuna_deepweeds.bench import pruners as bench

    if quick:
        pruners = _QUICK_PRUNERS if pruners == _DEFAULT_PRUNERS else pruners
        seeds = min(seeds, 3)
    for name, numbers in (("workers", workers), ("budgets", budgets)):
        if not numbers or min(numbers) < 1:
            raise InvalidInputError(f"--{name} must be numbers from 1 on, but got {numbers}.")
    if min(noises, default=0) < 0 or not all(0 <= share < 1 for share in misleads):
        raise InvalidInputError(
            f"--noise must be >= 0 and --mislead in [0, 1), but got {noises} and {misleads}."
        )
    separator = ";" if ";" in pruners or ":" in pruners else ","
    names = [name.strip() for name in pruners.split(separator) if name.strip()]
    if cost_at is not None:
        emit(
            [
                _cost(_expand(sources)[0], name, cost_at, max_resources, first_seed)
                for name in names
            ],
            columns=_COST_COLUMNS,
            fmt=fmt,
        )
        return
    cells = bench.grid(
        _expand(sources),
        names,
        max_resources=max_resources,
        workers=workers,
        orders=orders,
        noises=noises,
        misleads=misleads,
        prior_curves=prior_curves,
        storage="sqlite" if sqlite else "memory",
        budget=max(budgets),
        seeds=range(first_seed, first_seed + seeds),
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = output or Path(scratch) / "runs.csv"
        bench.run_grid(cells, path, processes=processes, progress=_progress)
        rows = pruner_rows.read_rows(path)
    table = pruner_summary.summarise(rows, budgets=budgets)
    if not per_task:
        table = [row for row in table if row["task"] == pruner_summary.MEAN] or table
    is_warm = pruner_summary.has_prior_curves(rows)
    columns = pruner_summary.warm_start_columns if is_warm else pruner_summary.columns
    emit(table, columns=columns(budgets), fmt=fmt)


def _cost(
    source: str, pruner: str, n_trials: int, max_resources: list[int], seed: int
) -> dict[str, Any]:
    from optuna_deepweeds.bench import pruner_cost
    from optuna_deepweeds.bench.curves import load

    curves = load(source)
    if max_resources:
        curves = curves.cut(max_resources[0])
    return asdict(pruner_cost.measure(curves, pruner, n_trials, seed=seed))


def _progress(done: int, total: int) -> None:
    if done == total or done % max(1, total // 20) == 0:
        info(f"{done} of {total} runs done")


def _expand(sources: tuple[str, ...]) -> list[str]:
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

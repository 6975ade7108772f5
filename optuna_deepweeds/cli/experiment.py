"""`experiment`: a grid of studies at equal budget, and its report."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optuna_deepweeds.cli._output import emit, format_option, info, storage_option, typed
from optuna_deepweeds.cli._values import WorkerOptions, page_option, png_option, worker_options
from optuna_deepweeds.datasets import DATASETS, is_folder
from optuna_deepweeds.schema import choose

if TYPE_CHECKING:
    import optuna

    from optuna_deepweeds.studies.experiment import Experiment

_RUN_EPILOG = """
\b
A grid of one's own, mine.toml:
  name = "mine"
  dataset = "deepweeds-balanced"
  space = "course"
  samplers = ["random", "tpe", "rf_ei"]
  pruners = ["asha", "dora"]
  seeds = [1, 2, 3]
  total_epochs = 400       # or trials, or seconds: of each study
  [evaluate]
  seeds = 3
"""

_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group()
def experiment() -> None:
    """Compare samplers and pruners over seeds at equal budget.

    FILE is a grid in TOML, or the name of a shipped one: small (the demo images, for a CPU) or
    published (the grid of the published comparison). Its studies are ordinary ones: every other
    command reads them.
    """


@experiment.command()
@_FILE
@format_option
@storage_option
def plan(file: Path, fmt: str, storage_url: str | None) -> None:
    """List the studies of the grid, how far they are and what is left; changes nothing."""
    from optuna_deepweeds.studies.experiment import read_experiment

    _print_plan(read_experiment(file), fmt, storage_url)


@experiment.command(epilog=_RUN_EPILOG)
@_FILE
@click.option(
    "--jobs", type=click.IntRange(1, 64), metavar="N",
    help="Studies that run at a time, a process each.  [default: one a core up to 4 on a CPU, "
    "1 on a GPU]",
)  # fmt: skip
@click.option(
    "--test-seeds", type=click.IntRange(0), metavar="N",
    help="Trainings that test each study's best network once all studies have run; 0 for none.  "
    "[default: as the grid says]",
)  # fmt: skip
@worker_options("workers", "device", "deterministic", "data_dir", "stop_when")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, do nothing.")
@click.option("--claims", type=click.Path(path_type=Path), hidden=True)
@storage_option
def run(
    file: Path,
    jobs: int | None,
    test_seeds: int | None,
    options: WorkerOptions,
    dry_run: bool,
    claims: Path | None,
    storage_url: str | None,
) -> int:
    """Run the grid, or go on with it; what is finished is not done again.

    With more than one of --workers, studies run one after another, each by so many processes.
    Ctrl-C or a crash at any point costs nothing but the epoch under way: run it again.
    """
    from optuna_deepweeds.cli._grid import GridRun, default_jobs, run_jobs
    from optuna_deepweeds.cli._work import check_device, load_images
    from optuna_deepweeds.studies.experiment import EvaluationPlan, read_experiment
    from optuna_deepweeds.studies.manager import read_source
    from optuna_deepweeds.studies.storage import open_storage

    # Everything that can be wrong is looked at before the storage is touched.
    grid = read_experiment(file)
    if test_seeds is not None:
        recipe = grid.evaluation.recipe if grid.evaluation is not None else "study"
        tests = EvaluationPlan(test_seeds, recipe) if test_seeds else None
        grid = replace(grid, evaluation=tests)
    if options.workers > 1 and (jobs or 1) > 1:
        raise click.UsageError("--jobs and --workers cannot both be more than 1.")
    chosen = check_device(options.device)
    priors = {source: read_source(source) for cell in grid.cells for source in cell.priors}
    task = load_images(grid.cells[0].spec, options)
    if dry_run:
        _print_plan(grid, "table", storage_url)
        info("Dry run: nothing was done.")
        return 0
    storage = open_storage(storage_url)
    whole = GridRun(grid, task, priors, storage, options, claims)
    if claims is not None:
        return whole.run()
    states = Counter(map(grid.state, grid.studies(storage).values()))
    n_done = states["done"] + states["tested"]
    info(f"{n_done} of {len(grid.cells)} studies are done already.")
    if jobs is None:
        n_ready = n_done if grid.evaluation is None else states["tested"]
        jobs = 1 if options.workers > 1 else default_jobs(chosen, len(grid.cells) - n_ready)
    code = whole.run() if jobs == 1 else run_jobs(whole, file, jobs, str(storage.url))
    if code == 0:
        info(f"All {len(grid.cells)} studies are done; see: {typed(f'experiment report {file}')}")
    else:
        info(f"To go on: {typed(f'experiment run {file}')}")
    return code


@experiment.command()
@_FILE
@page_option
@png_option
@format_option
@storage_option
def report(
    file: Path, output: Path | None, png_folder: Path | None, fmt: str, storage_url: str | None
) -> None:
    """Compare the grid's methods as far as its studies have come, on one HTML page.

    Prints a row a method on stdout, and on stderr what the numbers say and whether they are enough
    to say it.
    """
    from optuna_deepweeds.cli.report import draw, present, require_plots
    from optuna_deepweeds.errors import NotFoundError
    from optuna_deepweeds.report.compare import compare
    from optuna_deepweeds.report.view import StudyView
    from optuna_deepweeds.studies.experiment import read_experiment

    require_plots()
    grid = read_experiment(file)
    there = _studies(grid, storage_url)
    if not there:
        raise NotFoundError(f"no study of {grid.name!r} has begun; `experiment run {file}` does.")
    comparison = compare([StudyView.of(study) for study in there.values()])
    if len(there) < len(grid.cells):
        info(f"{len(there)} of {len(grid.cells)} studies have begun.")
    present(comparison, comparison.method_table(), fmt)
    path = output or Path("reports") / f"{grid.name}.html"
    draw(comparison, path, png_folder, f"Experiment {grid.name}")


def _print_plan(grid: Experiment, fmt: str, storage_url: str | None) -> None:
    from optuna_deepweeds.studies.accounting import progress
    from optuna_deepweeds.studies.experiment import cost_sentence

    if not is_folder(grid.cells[0].spec.dataset):
        choose("data set", grid.cells[0].spec.dataset, DATASETS)
    there = _studies(grid, storage_url)
    rows = []
    for cell in grid.cells:
        row = {"study": cell.name, "sampler": cell.spec.sampler, "pruner": cell.spec.pruner,
               "seed": cell.spec.seed, "state": "to do"}  # fmt: skip
        if (study := there.get(cell.name)) is not None:
            state = progress(study.get_trials(deepcopy=False), study.direction)
            row |= {"state": grid.state(study), "finished": state.finished}
            row |= {"epochs": state.epochs, "best": state.best.value if state.best else None}
        rows.append(row)
    columns = ("study", "sampler", "pruner", "seed", "state", "finished", "epochs", "best")
    emit(rows, columns=columns, fmt=fmt)
    info(cost_sentence(grid, there))


def _studies(grid: Experiment, storage_url: str | None) -> dict[str, optuna.Study]:
    """The grid's studies that exist, by name; none without a storage."""
    from optuna_deepweeds.errors import NotFoundError
    from optuna_deepweeds.studies.storage import open_storage

    try:
        return grid.studies(open_storage(storage_url, must_exist=True))
    except NotFoundError:
        return {}

"""`experiment`: a grid of studies at equal budget, and its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optuna_deepweeds.cli._output import emit, format_option, info, storage_option

if TYPE_CHECKING:
    import optuna

    from optuna_deepweeds.studies.experiment import Cell, Experiment

_EPILOG = """
\b
Examples:
  optuna-deepweeds experiment plan small
  optuna-deepweeds experiment run small
  optuna-deepweeds experiment report small -o small.html
"""

_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group(epilog=_EPILOG)
def experiment() -> None:
    """Compare samplers and pruners over seeds at equal budget.

    FILE is a grid in TOML, or the name of a shipped one: small (the demo images, for a CPU) or
    published (the grid of the published comparison).
    """


@experiment.command()
@_FILE
@format_option
@storage_option
def plan(file: Path, fmt: str, storage_url: str | None) -> None:
    """List the studies of the grid and how far they are; changes nothing."""
    from optuna_deepweeds.studies.accounting import progress
    from optuna_deepweeds.studies.experiment import is_finished, read_experiment

    grid = read_experiment(file)
    there = _studies(grid, storage_url)
    rows = []
    for cell in grid.cells:
        study = there.get(cell.name)
        row = {"study": cell.name, "sampler": cell.spec.sampler, "pruner": cell.spec.pruner,
               "seed": cell.spec.seed, "state": "to do"}  # fmt: skip
        if study is not None:
            state = progress(study.get_trials(deepcopy=False), study.direction)
            row |= {"state": "done" if is_finished(study) else "begun", "finished": state.finished}
            row |= {"epochs": state.epochs, "best": state.best.value if state.best else None}
        rows.append(row)
    columns = ("study", "sampler", "pruner", "seed", "state", "finished", "epochs", "best")
    emit(rows, columns=columns, fmt=fmt)


@experiment.command()
@_FILE
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True,
    help="Worker processes of each study; studies run one after another.",
)  # fmt: skip
@click.option("--device", help="cpu, cuda or cuda:N; the default is CUDA where there is one.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the images lie.")
@storage_option
def run(
    file: Path, workers: int, device: str | None, data_dir: Path | None, storage_url: str | None
) -> int:
    """Run the grid, or go on with it; finished studies are skipped."""
    from optuna_deepweeds.cli._work import work
    from optuna_deepweeds.cli.study_run import check_device
    from optuna_deepweeds.datasets import load
    from optuna_deepweeds.priors import read_priors
    from optuna_deepweeds.studies import manager
    from optuna_deepweeds.studies.experiment import is_finished, read_experiment
    from optuna_deepweeds.studies.storage import open_storage

    # Everything that can be wrong is looked at before the storage is touched.
    grid = read_experiment(file)
    check_device(device)
    priors = {source: read_priors(source) for cell in grid.cells for source in cell.priors}
    first = grid.cells[0].spec
    images = load(first.dataset, data_dir=data_dir, fold=first.fold)
    storage = open_storage(storage_url)
    for i, cell in enumerate(grid.cells, start=1):
        spec = replace(cell.spec, dataset_fingerprint=images.fingerprint)
        study, _ = manager.create_or_continue(cell.name, spec, cell.budget, storage)
        if is_finished(study):
            info(f"[{i}/{len(grid.cells)}] {cell.name}: done already.")
            continue
        info(f"[{i}/{len(grid.cells)}] {cell.name}")
        if cell.priors:
            rows = [row for source in cell.priors for row in priors[source]]
            manager.add_priors(study, rows, enqueue_best=cell.enqueue_best)
            study = manager.equip(study, spec)
        code = work(
            study, images, workers=workers, engine="local", gpus=0.0, device=device,
            deterministic=False, data_dir=data_dir,
        )  # fmt: skip
        if code:
            return code
    info(f"All {len(grid.cells)} studies are done; see: experiment report {file}")
    return 0


@experiment.command()
@_FILE
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="The HTML file.  [default: reports/NAME.html]",
)  # fmt: skip
@click.option(
    "--png", "png_folder", type=click.Path(file_okay=False, path_type=Path),
    help="Also draw every figure as a PNG into this folder.",
)  # fmt: skip
@format_option
@storage_option
def report(
    file: Path, output: Path | None, png_folder: Path | None, fmt: str, storage_url: str | None
) -> None:
    """Compare the grid's methods as far as its studies have come, on one HTML page."""
    from optuna_deepweeds.cli.report import require_plots
    from optuna_deepweeds.errors import NotFoundError
    from optuna_deepweeds.report import compare_report
    from optuna_deepweeds.report.compare import compare
    from optuna_deepweeds.report.view import StudyView
    from optuna_deepweeds.studies.experiment import read_experiment

    require_plots()
    grid = read_experiment(file)
    there = _studies(grid, storage_url)
    if not there:
        raise NotFoundError(f"no study of {grid.name!r} has begun; run: experiment run {file}")
    comparison = compare([StudyView.of(study) for study in there.values()])
    content = comparison.method_table()
    rows = [dict(zip(content.columns, row, strict=True)) for row in content.rows]
    emit(rows, columns=content.columns, fmt=fmt)
    if len(there) < len(grid.cells):
        info(f"{len(there)} of {len(grid.cells)} studies have begun.")
    for sentence in comparison.sentences():
        info(sentence)
    path = output or Path("reports") / f"{grid.name}.html"
    compare_report.write_html(comparison, path, title=f"Experiment {grid.name}")
    info(f"Report written to {path}.")
    if png_folder is not None:
        paths = compare_report.write_pngs(comparison, png_folder)
        info(f"{len(paths)} figures written to {png_folder}/.")


def _studies(grid: Experiment, storage_url: str | None) -> dict[str, optuna.Study]:
    """The grid's studies that exist, by name, in the grid's order."""
    from optuna_deepweeds.errors import NotFoundError
    from optuna_deepweeds.studies import manager
    from optuna_deepweeds.studies.storage import open_storage

    try:
        storage = open_storage(storage_url, must_exist=True)
    except NotFoundError:
        return {}
    names = set(manager.study_names(storage))
    cells: list[Cell] = [cell for cell in grid.cells if cell.name in names]
    return {cell.name: manager.load_plain(cell.name, storage) for cell in cells}

"""`priors`: earlier trials as files and inside studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from optuna_deepweeds.cli._output import emit, format_option, info, storage_option
from optuna_deepweeds.cli._values import Output
from optuna_deepweeds.errors import DeepWeedsError, NotFoundError
from optuna_deepweeds.priors import (
    SHIPPED,
    export_priors,
    imported_counts,
    match_priors,
    read_priors,
)
from optuna_deepweeds.report.standing import counted
from optuna_deepweeds.spaces.load import load_space


@click.group()
def priors() -> None:
    """List, show, import and export earlier trials.

    A prior is a CSV of trials as this program, Optuna, MLflow, Ray Tune or Weights & Biases write
    them (see priors/README.md), a runhistory.json of SMAC3, or a study given as URL#STUDY.
    """


@priors.command("list")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of prior files.  [default: priors, or what comes with the program]",
)
@storage_option
@format_option
def list_(folder: Path | None, storage_url: str | None, fmt: str) -> None:
    """List prior files, and the priors that studies hold."""
    here = Path("priors")
    folder = folder or (here if here.is_dir() else SHIPPED)
    rows = [_file_row(path) for path in sorted(folder.glob("*")) if path.suffix in _SUFFIXES]
    rows += _study_rows(storage_url)
    if not rows:
        info(f"No prior files in {folder}/ and no priors in any study.")
    emit(rows, columns=("where", "source", "trials", "complete", "best", "metric"), fmt=fmt)


_TYPED = click.core.ParameterSource.COMMANDLINE
_SUFFIXES = (".csv", ".json")


def _file_row(path: Path) -> dict[str, Any]:
    try:
        trials = read_priors(path)
    except DeepWeedsError:
        return {"where": str(path), "source": "not read as a prior"}
    complete = [t for t in trials if not t.problem]
    best = min(complete, key=lambda t: t.loss, default=None)
    return {
        "where": str(path),
        "source": path.stem,
        "trials": len(trials),
        "complete": len(complete),
        "best": None if best is None else best.value,
        "metric": None if best is None else best.metric,
    }


def _study_rows(storage_url: str | None) -> list[dict[str, Any]]:
    # Imported here so that `priors show FILE` needs no storage.
    from optuna_deepweeds.studies.storage import open_storage

    try:
        storage = open_storage(storage_url, must_exist=True)
    except NotFoundError:
        if click.get_current_context().get_parameter_source("storage_url") == _TYPED:
            raise
        return []
    return [
        {"where": f"study {study.study_name}", "source": source, "trials": n, "complete": n}
        for study in storage.get_all_studies()
        for source, n in sorted(imported_counts(study.user_attrs).items())
    ]


_METRIC = click.option(
    "--metric",
    metavar="NAME",
    help="What the values are where the source does not say (accuracy, error, ...), or the column "
    "that holds them.",
)


@priors.command()
@click.argument("source", metavar="FILE|URL#STUDY")
@click.option(
    "--space", default="course", help="The space to match, by name or file (see spaces show)."
)
@click.option("--epochs", type=click.IntRange(1), help="Epochs of a full training.")
@click.option("--study", "name", help="The study to match, in place of a space and its epochs.")
@_METRIC
@storage_option
@format_option
def show(
    source: str,
    space: str,
    epochs: int | None,
    name: str | None,
    metric: str | None,
    storage_url: str | None,
    fmt: str,
) -> None:
    """Show which trials of a prior a study would take, as it takes them, and which not."""
    from optuna_deepweeds.studies import manager

    trials = manager.read_source(source, metric=metric)
    if name is None:
        matching = match_priors(trials, load_space(space), max_epochs=epochs)
    else:
        study = manager.find(name, storage_url)
        matching = manager.preview_priors(trials, manager.study_spec(study), study)
    kept = sorted(matching.kept, key=lambda t: t.loss)
    rows = [{**vars(t), "use": "kept", "reason": ""} for t in kept]
    rows += [{**vars(d.prior), "use": "dropped", "reason": d.reason} for d in matching.dropped]
    columns = ["where", "use", "reason", "value", "metric", "epochs", "seconds", "params"]
    if fmt == "table" and not matching.dropped:
        columns.remove("reason")
    emit(rows, columns=columns, fmt=fmt)
    info(f"{len(trials)} trials: {len(matching.kept)} kept, {len(matching.dropped)} dropped.")
    for line in matching.lines():
        info(line)


@priors.command("import")
@click.argument("source", metavar="FILE|URL#STUDY")
@click.option("--study", "name", required=True, help="The study that gets the trials.")
@click.option(
    "--enqueue-best",
    type=click.IntRange(0),
    default=0,
    metavar="K",
    help="Train the K best again first.",
)
@_METRIC
@storage_option
def import_(
    source: str, name: str, enqueue_best: int, metric: str | None, storage_url: str | None
) -> None:
    """Add earlier trials to a study's priors; a second import adds nothing.

    They inform the sampler of workers that start from now on, and never count as trials of the
    study.
    """
    from optuna_deepweeds.studies import manager

    study = manager.find(name, storage_url)
    summary = manager.add_priors(
        study, manager.read_source(source, metric=metric), enqueue_best=enqueue_best
    )
    for line in summary.lines():
        info(line)


@priors.command()
@click.argument("study", metavar="STUDY")
@click.argument("file", type=Output())
@click.option(
    "--digits",
    type=click.IntRange(1),
    help="Significant digits of its numbers; by default all, so that they can be read again.",
)
@storage_option
def export(study: str, file: Path, digits: int | None, storage_url: str | None) -> None:
    """Write a study's own finished trials with their curves to FILE (our CSV)."""
    from optuna_deepweeds.studies import manager

    opened = manager.find(study, storage_url)
    space = manager.study_spec(opened).search_space
    n = export_priors(opened, file, space=space, digits=digits)
    info(f"{counted(n, 'trial')} written to {file}.")

"""`priors`: earlier trials as files and inside studies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click
import optuna

from optuna_deepweeds import attributes
from optuna_deepweeds.cli._output import emit, format_option, info, storage_option
from optuna_deepweeds.cli._values import Output
from optuna_deepweeds.errors import DeepWeedsError, NotFoundError
from optuna_deepweeds.priors import (
    PriorTrial,
    export_priors,
    import_priors,
    match_priors,
    read_priors,
)
from optuna_deepweeds.spaces import SPACES


@click.group()
def priors() -> None:
    """List, show, import and export earlier trials.

    A prior is a CSV of trials (see priors/README.md), a run-history CSV of the AutoML lecture,
    a runhistory.json of SMAC3, or a study given as URL#STUDY.
    """


@priors.command("list")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("priors"),
    show_default=True,
    help="Folder of prior files.",
)
@storage_option
@format_option
def list_(folder: Path, storage_url: str | None, fmt: str) -> None:
    """List prior files, and the priors that studies hold."""
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
        return {"where": str(path), "source": "not a prior file"}
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
    from optuna_deepweeds.studies import manager
    from optuna_deepweeds.studies.storage import open_storage

    try:
        storage = open_storage(storage_url, must_exist=True)
    except NotFoundError:
        if click.get_current_context().get_parameter_source("storage_url") == _TYPED:
            raise
        return []
    rows = []
    for name in manager.study_names(storage):
        study = manager.load_plain(name, storage)
        counts = Counter(
            str(t.user_attrs[attributes.PRIOR])
            for t in study.get_trials(deepcopy=False)
            if attributes.PRIOR in t.user_attrs
        )
        rows += [
            {"where": f"study {name}", "source": source, "trials": n, "complete": n}
            for source, n in sorted(counts.items())
        ]
    return rows


@priors.command()
@click.argument("source", metavar="FILE|URL#STUDY")
@click.option(
    "--space",
    type=click.Choice(sorted(SPACES)),
    default="course",
    show_default=True,
    help="The space to match.",
)
@click.option("--epochs", type=click.IntRange(1), help="Epochs of a full training.")
@format_option
def show(source: str, space: str, epochs: int | None, fmt: str) -> None:
    """Show which trials of a prior a study would take and why not the others."""
    trials = _read(source)
    matching = match_priors(trials, SPACES[space], max_epochs=epochs)
    rows = [_trial_row(t, "kept", "") for t in sorted(matching.kept, key=lambda t: t.loss)]
    rows += [_trial_row(d.prior, "dropped", d.reason) for d in matching.dropped]
    columns = ["where", "use", "reason", "value", "metric", "epochs", "seconds", "params"]
    if fmt == "table" and not matching.dropped:
        columns.remove("reason")
    emit(rows, columns=columns, fmt=fmt)
    info(f"{len(trials)} trials: {len(matching.kept)} kept, {len(matching.dropped)} dropped.")
    for rule, n in matching.dropped_by_rule.items():
        info(f"  dropped {n}: {rule}")
    if matching.ignored:
        names = ", ".join(f"{name} ({n})" for name, n in matching.ignored.items())
        info(f"  ignored columns, with rows that have them: {names}")


def _trial_row(trial: PriorTrial, use: str, reason: str) -> dict[str, Any]:
    return {
        "where": trial.where,
        "use": use,
        "reason": reason,
        "value": trial.value,
        "metric": trial.metric,
        "epochs": trial.epochs,
        "seconds": trial.seconds,
        "params": dict(trial.params),
    }


@priors.command("import")
@click.argument("source", metavar="FILE|URL#STUDY")
@click.option("--study", "name", required=True, help="The study that gets the trials.")
@click.option(
    "--enqueue-best",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="K",
    help="Train the K best again first instead of adding their old values.",
)
@storage_option
def import_(source: str, name: str, enqueue_best: int, storage_url: str | None) -> None:
    """Add earlier trials to a study; a second import adds nothing.

    The trials inform the sampler; they never count as trials of the study.
    """
    from optuna_deepweeds.studies import manager
    from optuna_deepweeds.studies.storage.locks import study_lock

    study = manager.open_study(name, storage_url)
    spec = manager.study_spec(study)
    trials = _read(source)
    with study_lock(study._storage, study._study_id):
        summary = import_priors(
            study,
            spec.search_space,
            trials,
            enqueue_best=enqueue_best,
            max_epochs=spec.epochs,
        )
    for line in summary.lines():
        info(line)


@priors.command()
@click.argument("study", metavar="STUDY")
@click.argument("file", type=Output())
@storage_option
def export(study: str, file: Path, storage_url: str | None) -> None:
    """Write a study's own finished trials with their curves to FILE (our CSV)."""
    from optuna_deepweeds.studies import manager

    opened = manager.open_study(study, storage_url)
    n = export_priors(opened, file, space=manager.study_spec(opened).search_space)
    info(f"{n} trial{'s' if n != 1 else ''} written to {file}.")


def _read(source: str) -> list[PriorTrial]:
    from optuna_deepweeds.studies import manager

    def open_study(url: str, name: str) -> optuna.Study:
        return manager.open_study(name, url)

    return read_priors(source, open_study=open_study)

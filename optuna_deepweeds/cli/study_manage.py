"""`study stop`, `reap`, `export`, `import` and `delete`."""

from __future__ import annotations

import shlex
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click
import optuna
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.cli._complete import study_name
from optuna_deepweeds.cli._output import info, storage_option
from optuna_deepweeds.cli._values import Output
from optuna_deepweeds.report.standing import counted
from optuna_deepweeds.studies import informants, manager, resume
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.storage.locks import run_locked
from optuna_deepweeds.studies.storage.reading import light_trials, open_reader
from optuna_deepweeds.studies.transfer_file import export_study, import_study


@click.command()
@study_name
@storage_option
def stop(name: str, storage_url: str | None) -> None:
    """Let the running trials of study NAME finish and start no more.

    `study resume NAME` goes on.
    """
    study = manager.find(name, storage_url, single=True)
    study.set_user_attr(attributes.STOP, datetime.now(UTC).isoformat(timespec="seconds"))
    running = _states(study)[TrialState.RUNNING]
    left = f"; still to finish: {counted(running, 'running trial')}" if running else ""
    info(f"Study {name} stops{left}. `study resume {shlex.quote(name)}` goes on.")


@click.command()
@study_name
@storage_option
def reap(name: str, storage_url: str | None) -> None:
    """Queue the trials of study NAME again whose workers died.

    Workers do so by themselves before each trial; this is for studies without workers.
    """
    storage = open_storage(storage_url, must_exist=True)
    study = manager.load_plain(name, storage)
    checkpoints = manager.study_checkpoints(study)
    dead = run_locked(
        storage, study._study_id, lambda: resume.requeue_dead_trials(study, checkpoints)
    )
    numbers = ": " + ", ".join(str(trial.number) for trial in dead) if dead else ""
    info(f"{counted(len(dead), 'trial')} of dead workers queued again{numbers}.")
    running = _states(study)[TrialState.RUNNING]
    if running:
        info(
            f"{counted(running, 'running trial')} left alone: the worker lives, or gave a sign of "
            f"life in the last {storage.grace_seconds:g} s."
        )


@click.command()
@study_name
@click.argument("file", type=Output(is_folder=None))
@click.option(
    "--to", "tracker", type=click.Choice(["tensorboard", "mlflow", "wandb"]),
    help="Write the curves as runs of this tracker into the folder FILE instead.",
)  # fmt: skip
@storage_option
def export(name: str, file: Path, tracker: str | None, storage_url: str | None) -> None:
    """Write study NAME, whole, to FILE (.jsonl, or .jsonl.gz to compress)."""
    if tracker is None:
        study = manager.find(name, storage_url, with_old_form=True)
        count = export_study(study, file)
        info(f"Wrote study {name} with {counted(count, 'trial')} to {file}.")
        return
    from optuna_deepweeds.report.trackers import write_runs
    from optuna_deepweeds.report.view import StudyView

    with open_reader(storage_url) as reader:
        view = StudyView.read(name, reader)
    count, way = write_runs(view, file, tracker)
    info(f"Wrote {counted(count, 'run')} of study {name} to {file}. To see them: {way}")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", help="Another name than the exported study's.")
@storage_option
def import_(file: Path, name: str | None, storage_url: str | None) -> None:
    """Read a study that `study export` wrote into a storage."""
    study = import_study(file, open_storage(storage_url), name=name)
    count = _states(study).total()
    info(f"Read study {study.study_name} with {counted(count, 'trial')}.")


@click.command()
@study_name
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@storage_option
def delete(name: str, yes: bool, storage_url: str | None) -> int:
    """Delete study NAME, its trials, its checkpoints and its files for the dashboard."""
    from optuna_deepweeds.report.artifacts import delete_artifacts

    study = manager.find(name, storage_url, with_old_form=True)
    informants.refuse_companion(study)
    states = _states(study)
    count, running = counted(states.total(), "trial"), states[TrialState.RUNNING]
    also = f", {running} of them running" if running else ""
    if not yes and not click.confirm(f"Delete study {name} with {count}{also}?", err=True):
        info("Nothing was deleted.")
        return 1
    checkpoints = manager.study_checkpoints(study)
    delete_artifacts(study)
    priors = informants.companion(study)
    optuna.delete_study(study_name=name, storage=study._storage)
    if priors is not None:
        optuna.delete_study(study_name=priors.study_name, storage=study._storage)
    checkpoints.delete()
    info(f"Deleted study {name} with {count}.")
    return 0


def _states(study: optuna.Study) -> Counter[TrialState]:
    """Number of the study's trials by state."""
    return Counter(trial.state for trial in light_trials(study))

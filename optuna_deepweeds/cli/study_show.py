"""`study list`, `status`, `best` and `trials`: what is in the storage."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.cli._complete import study_name
from optuna_deepweeds.cli._output import (
    emit,
    emit_record,
    format_option,
    info,
    storage_option,
    typed,
)
from optuna_deepweeds.cli._values import Output, WorkerOptions, worker_options
from optuna_deepweeds.errors import DeepWeedsError, NotFoundError
from optuna_deepweeds.files import write_whole
from optuna_deepweeds.priors import n_imported
from optuna_deepweeds.report.calibration import judged, outlook, summary
from optuna_deepweeds.report.origins import misleading_steps, suggestions
from optuna_deepweeds.report.standing import STATES, again, duration, state_of
from optuna_deepweeds.report.tables import trial_row
from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.studies.accounting import best_trial, progress
from optuna_deepweeds.studies.ending import time_left
from optuna_deepweeds.studies.spec import Budget, named_companions, refuse_old_form
from optuna_deepweeds.studies.storage.reading import Reader, StudyRow, open_reader
from optuna_deepweeds.trials import root, sign


@click.command("list")
@format_option
@storage_option
def list_(fmt: str, storage_url: str | None) -> None:
    """List the studies of a storage."""
    with open_reader(storage_url) as reader:
        studies = reader.studies()
        companions = named_companions(study.user_attrs.get(attributes.SPEC) for study in studies)
        shown = [
            (study, reader.trials(study.study_id, params=False, curves=False))
            for study in studies
            if study.name not in companions
        ]
    rows = []
    for study, found in shown:
        state = progress(found, study.directions[0])
        # A damaged study must not hide the others.
        spec, budget = (_stored(study, key) for key in (attributes.SPEC, attributes.BUDGET))
        rows.append(
            {
                "name": study.name,
                **{k: spec.get(k) for k in ("dataset", "space", "sampler", "pruner", "seed")},
                "finished": state.finished,
                "of": budget.get("trials"),
                "running": state.running,
                "failed": state.failed,
                "priors": n_imported(study.user_attrs) or None,
                "best": None if state.best is None else state.best.value,
                "last_activity": max(_moments(found), default=None),
            }
        )
    # The first of them fit a narrow terminal.
    columns = ["name", "finished", "of", "best", "running", "failed", "last_activity"]
    columns += ["sampler", "pruner", "seed", "dataset", "space", "priors"]
    if not rows and fmt == "table":
        info("No studies yet; `study run` makes one.")
        return
    emit(rows, columns=columns, fmt=fmt)


@contextmanager
def _opened(name: str, storage_url: str | None) -> Iterator[tuple[Reader, StudyRow]]:
    """A reader of the storage, and the study that it is about."""
    with open_reader(storage_url) as reader:
        study = reader.study(name)
        refuse_old_form(name, study.user_attrs)
        yield reader, study


def _stored(study: StudyRow, key: str) -> dict[str, Any]:
    """A mapping among a study's attributes; empty where it is damaged or absent."""
    value = study.user_attrs.get(key)
    return value if isinstance(value, dict) else {}


def _moments(trials: Iterable[FrozenTrial]) -> Iterator[datetime]:
    """When trials started or ended."""
    for trial in trials:
        yield from filter(None, (trial.datetime_start, trial.datetime_complete))


@click.command()
@study_name
@format_option
@storage_option
def status(name: str, fmt: str, storage_url: str | None) -> None:
    """Where study NAME stands: trials, epochs, time, best, and how anticipation did."""
    with _opened(name, storage_url) as (reader, study):
        found = reader.trials(study.study_id, params=False)
    state = progress(found, study.directions[0])
    record: dict[str, Any] = {"study": name}
    # Not `study_spec`, which refuses what another version wrote.
    spec = _stored(study, attributes.SPEC)
    epochs = spec.get("epochs")
    if spec:
        thaw = " with thaw" if spec.get("thaw") else ""
        record |= {key: spec.get(key) or None for key in ("dataset", "space", "sampler")}
        record |= {"pruner": f"{spec.get('pruner')}{thaw}", "seed": spec.get("seed")}
    budget = Budget.from_json(study.user_attrs.get(attributes.BUDGET))
    record |= {
        "trials_finished": state.finished,
        "trials_total": budget.trials,
        **{state_name: getattr(state, state_name) for state_name in _COUNTS},
        "priors": n_imported(study.user_attrs),
        "epochs_trained": state.epochs,
    }
    if epochs is not None and state.finished and state.epochs:
        full = state.without_stopping(epochs)
        record |= {"epochs_without_pruning": full, "epochs_saved": max(0, full - state.epochs)}
    if state.best is not None:
        record |= {"best_value": state.best.value, "best_trial": state.best.number}
    record["running_time"] = _as_duration(state.seconds, fmt)
    if budget.seconds is not None:
        record["time_limit"] = _as_duration(budget.seconds, fmt)
    if flat := _stored(study, attributes.FLAT):
        record |= {"flat_gain": flat.get("gain"), "flat_epochs_saved": flat.get("epochs")}
    left = time_left(budget, state)
    if state.running and left is not None:
        record["time_left"] = _as_duration(left, fmt)
    if origins := suggestions(found):
        record["suggestions"] = ", ".join(f"{n} {origin}" for origin, n in origins.items())
    if misleading := misleading_steps(found, study.directions[0]):
        record["early_epochs_mislead"] = ", ".join(map(str, misleading))
    if state.finished <= _MAX_CALIBRATED:
        record |= summary(judged(found))
    emit_record(record, fmt=fmt)


@click.command()
@study_name
@click.option(
    "--save",
    "model_file",
    type=Output(),
    help="Write the trial's network to this file, for `predict`; of an own task its checkpoint. "
    "What is left of neither is trained again.",
)
@click.option("--trial", "number", type=int, help="Another trial than the best.")
@worker_options("data_dir")
@format_option
@storage_option
def best(
    name: str,
    model_file: Path | None,
    number: int | None,
    options: WorkerOptions,
    fmt: str,
    storage_url: str | None,
) -> None:
    """The best trial of study NAME, its parameters and, with --save, its network."""
    with _opened(name, storage_url) as (reader, row):
        direction, metric = row.directions[0], (row.metric_names or [""])[0]
        light = reader.trials(row.study_id, params=False, curves=False)
        chosen = _best(name, light, direction) if number is None else number
        ids = {trial.number: trial._trial_id for trial in light}
        if chosen not in ids:
            raise NotFoundError(f"study {name!r} has no trial {chosen}; it has {len(ids)} trials.")
        trial = reader.trial(ids[chosen])
        is_complete = trial.state == TrialState.COMPLETE
        known = [trial] if is_complete else reader.trials(row.study_id, params=False)
    if model_file is not None:
        _save(name, trial, model_file, options, storage_url)
    emit_record(trial_row(trial, outlook(known, direction, metric)), fmt=fmt, params=trial.params)
    if fmt == "table" and model_file is None:
        _say_how_to_train_again(name, trial)


def _say_how_to_train_again(name: str, trial: FrozenTrial) -> None:
    if attributes.SEED in trial.user_attrs:
        command = again(name, trial.number).removeprefix("optuna-deepweeds ")
        info(f"What it came to, trained again if need be: {typed(command)}")


def _save(
    name: str, trial: FrozenTrial, file: Path, options: WorkerOptions, storage_url: str | None
) -> None:
    """Write what `trial` has come to, trained again where nothing of it is left."""
    from optuna_deepweeds.cli._work import load_task
    from optuna_deepweeds.studies import manager
    from optuna_deepweeds.tasks import ImageTask
    from optuna_deepweeds.tasks.task import train_again

    study = manager.find(name, storage_url, single=True)
    checkpoint = manager.study_checkpoints(study).path(root(trial))
    spec, what = manager.study_spec(study), "checkpoint"
    if spec.kind != "images" and checkpoint.is_file():
        write_whole(file, checkpoint.read_bytes())
    elif isinstance(task := load_task(spec, options), ImageTask):
        if trial.state != TrialState.COMPLETE or not checkpoint.is_file():
            info(f"Trial {trial.number} is trained to its end, which may take a while.")
        task.network(trial, checkpoint).save(file)
        what = "network"
    else:
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "checkpoint"
            try:
                value = train_again(task, trial, saved)
            except DeepWeedsError:
                raise
            except Exception as error:  # Whatever an objective may raise.
                failure = f"{type(error).__name__}: {error}"
                raise DeepWeedsError(f"trial {trial.number} failed again: {failure}") from error
            info(f"Trained trial {trial.number} again: {task.metric} {value:.6g}.")
            if not saved.exists():
                raise NotFoundError(f"{task.name} saves no checkpoint to write to {file}.")
            write_whole(file, saved.read_bytes())
    info(f"Saved the {what} of trial {trial.number} to {file}.")


_COUNTS = ("complete", "paused", "stopped", "continued", "running", "waiting", "failed")
_MAX_CALIBRATED = 2000
"""Finished trials up to which `status` judges anticipations, which takes 30 ms a thousand; reports
always do."""


@click.command()
@study_name
@click.option("--failed", is_flag=True, help="Failed trials with their reasons.")
@click.option("--traceback", is_flag=True, help="With --failed: the whole traceback.")
@click.option(
    "--state", type=click.Choice(list(STATES.values())), help="Trials in one state only."
)
@click.option("--priors", is_flag=True, help="Imported trials too.")
@click.option("--params", is_flag=True, help="A column a parameter (always so in JSON and CSV).")
@format_option
@storage_option
def trials(
    name: str,
    failed: bool,
    traceback: bool,
    state: str | None,
    priors: bool,
    params: bool,
    fmt: str,
    storage_url: str | None,
) -> None:
    """List the trials of study NAME."""
    with_params = params or (fmt != "table" and not failed)
    with open_reader(storage_url) as reader:
        view = StudyView.read(name, reader, params=with_params)
        companions = named_companions([view.spec] * priors)
        informing = [
            trial
            for other in reader.studies()
            if other.name in companions
            for trial in reader.trials(other.study_id, params=with_params)
        ]
    chosen = [
        t
        for t in [*view.trials, *informing]
        if (not failed or t.state == TrialState.FAIL) and (state is None or state_of(t) == state)
    ]
    columns = list(_COLUMNS)
    if failed and not chosen and fmt == "table":
        info(f"No trial of study {name} has failed.")
        return
    if failed:
        columns = ["number", "epochs", "seconds", "reason"]
        columns += ["traceback"] if traceback else []
    elif priors:
        columns.append("prior")
    known = ({}, {}) if failed else (view.outlook, view.replaced)
    rows = [
        trial_row(t, *(({}, {}) if attributes.PRIOR in t.user_attrs else known)) for t in chosen
    ]
    if with_params:
        names = list(dict.fromkeys(p for t in chosen for p in t.params))
        columns += names
        rows = [row | t.params for row, t in zip(rows, chosen, strict=True)]
    emit(rows, columns=columns, fmt=fmt)
    if failed and chosen and fmt == "table":
        _say_how_to_train_again(name, chosen[-1])


_COLUMNS = ("number", "state", "value", "epochs", "seconds", "expected", "low", "high", "origin",
            "note")  # fmt: skip


def _best(name: str, trials: Sequence[FrozenTrial], direction: StudyDirection) -> int:
    """Number of the best trial; of the best stopped one, and says so, if there is no other."""
    best = best_trial(trials, direction)
    if best is not None:
        return best.number
    stopped = [t for t in trials if t.state == TrialState.PRUNED and t.value is not None]
    if not stopped:
        raise NotFoundError(f"study {name!r} has no finished trial yet.")
    info("No trial is complete yet; this is the best of those that were stopped or paused.")
    return max(stopped, key=lambda t: sign(direction) * (t.value or 0.0)).number


def _as_duration(seconds: float, fmt: str) -> str | float:
    return duration(seconds) if fmt == "table" else round(seconds, 1)

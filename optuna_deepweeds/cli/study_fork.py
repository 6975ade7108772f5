"""`study fork`: a copy, or a study that begins from another one under a changed specification."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import click

from optuna_deepweeds.cli._complete import study_name
from optuna_deepweeds.cli._output import info, storage_option, typed
from optuna_deepweeds.cli._own_task import TaskOptions, fitted, own_task, space_named, task_options
from optuna_deepweeds.cli._values import WorkerOptions, worker_options
from optuna_deepweeds.datasets import is_folder
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.standing import counted
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.copy import fork_study
from optuna_deepweeds.studies.ending import raised
from optuna_deepweeds.studies.fork import fork_anew, fork_longer, is_no_more_than_longer
from optuna_deepweeds.studies.spec import StudySpec


@click.command()
@study_name
@click.argument("new_name", metavar="NEW")
@click.option("--space", metavar="NAME|FILE", help="Search this space: a name, or a file.")
@click.option(
    "--epochs", "--max-resource", "epochs", type=int, metavar="N",
    help="Train so long, or up to this step.",
)  # fmt: skip
@click.option("--dataset", help="Search on these images.")
@click.option("--size", type=int, help="Search on a folder's images at this size.")
@click.option("--group-by", metavar="REGEX", help="Split a folder's images so.")
@task_options
@worker_options("data_dir")
@storage_option
def fork(
    name: str,
    new_name: str,
    space: str | None,
    epochs: int | None,
    dataset: str | None,
    size: int | None,
    group_by: str | None,
    own: TaskOptions,
    options: WorkerOptions,
    storage_url: str | None,
) -> None:
    """Copy study NAME as study NEW of the same storage, or begin NEW from what NAME has learnt.

    Without options NEW is a copy with checkpoints and priors; a study of an earlier version that
    holds priors among its trials is brought into the present form so. With options NEW is another
    study. Where it only trains longer and thaws, NAME's trials are its own, with their
    checkpoints; else they are its priors, as far as they fit. NAME stays as it is.
    """
    images = {"dataset": dataset, "size": size, "group_by": group_by}
    images = {key: value for key, value in images.items() if value is not None}
    is_changed = bool(images) or (space, epochs) != (None, None) or own != TaskOptions()
    study = manager.find(name, storage_url, with_old_form=not is_changed)
    if not is_changed:
        copied = fork_study(study, new_name)
        count = counted(len(copied.get_trials(deepcopy=False)), "trial")
        info(f"Study {new_name} is a copy of {name} with {count}.")
        return
    old = manager.study_spec(study)
    spec = _changed(old, space, epochs, images, own, options)
    if spec == old:
        raise InvalidInputError(
            f"study {name!r} has all this already; "
            f"`study fork {shlex.quote(name)} {shlex.quote(new_name)}` copies it."
        )
    if is_no_more_than_longer(old, spec):
        made, along = fork_longer(study, new_name, spec)
        count = counted(along.n_trials, "trial")
        info(
            f"Study {new_name} goes on from {name}: {count} came along, "
            f"{along.n_reopened} of which had been trained to the end of {old.epochs} and may go "
            f"on to {spec.epochs}; {counted(along.n_checkpoints, 'network')} have a checkpoint."
        )
    else:
        made, summary = fork_anew(study, new_name, spec)
        info(f"Study {new_name} begins anew and learns from {name}.")
        for line in summary.lines():
            info(line)
    trials = made.get_trials(deepcopy=False)
    further = raised(manager.study_budget(made), progress(trials, made.direction)) or ""
    info(f"Next: {typed(f'study resume {shlex.quote(new_name)}{further}')}")


def _changed(
    old: StudySpec,
    space: str | None,
    epochs: int | None,
    images: dict[str, Any],
    own: TaskOptions,
    options: WorkerOptions,
) -> StudySpec:
    """What is asked for in place of `old`, its task looked at where that may have changed."""
    if images and (own.kind != "images" or old.kind != "images" and "dataset" not in images):
        named = f"--{next(iter(images))}".replace("_", "-")
        raise click.UsageError(f"{named} is of images, not of an objective or script.")
    spec = replace(old, epochs=old.epochs if epochs is None else epochs)
    if own.kind != "images":
        spec = replace(spec, **own.named(), fold=0, size=StudySpec.size, group_by="")
        if old.kind == "images" and space is None:
            spec = replace(spec, **space_named(""))
    elif images:
        if "dataset" in images:
            images["fold"] = 0
        if not is_folder(images.get("dataset", old.dataset)):
            images = {"size": StudySpec.size, "group_by": "", **images}
        spec = replace(spec, kind="images", folder="", dataset_fingerprint="", **images)
        if old.kind != "images" and space is None:
            spec = replace(spec, **space_named("course"))
    if space is not None:
        spec = replace(spec, **space_named(space))
    if spec.kind == "images":
        if images or spec.space_data is not None:
            from optuna_deepweeds.cli._work import load_images

            task = load_images(spec, options)
            spec = replace(spec, direction=task.direction, metric=task.metric)
            return replace(spec, dataset=task.name, dataset_fingerprint=task.fingerprint)
        return spec
    made = own_task(spec, own.metric, own.direction, epochs)
    if old.kind != "images":  # What neither the options nor the file says is as before.
        unsaid = {"metric", "direction", "epochs"} if own.kind == "images" else made.assumed
        made = own_task(
            spec,
            own.metric or (old.metric if "metric" in unsaid else None),
            own.direction or (old.direction if "direction" in unsaid else None),
            epochs or (old.epochs if "epochs" in unsaid else None),
        )
    return fitted(spec, made, old.thaw if own.kind == "images" else None)

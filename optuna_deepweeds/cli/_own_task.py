"""A study of anyone's objective or command: its options, its task, and what is said of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from optuna_deepweeds.cli._output import info
from optuna_deepweeds.cli._values import together
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.standing import counted
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.spaces.load import load_space, to_data
from optuna_deepweeds.studies.spec import StudySpec
from optuna_deepweeds.tasks import FunctionTask, ScriptTask

OwnTask = FunctionTask | ScriptTask
_PATIENCE_SECONDS = 0.4


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What is searched in place of images; all None for images."""

    objective: str | None = None
    script: str | None = None
    metric: str | None = None
    direction: str | None = None

    def __post_init__(self) -> None:
        if self.objective is not None and self.script is not None:
            raise click.UsageError("--objective and --script exclude one another.")
        if self.kind == "images" and (self.metric is not None or self.direction is not None):
            raise click.UsageError("--metric and --direction are of --objective and --script.")

    @property
    def kind(self) -> str:
        """As in `StudySpec`."""
        if self.objective is not None:
            return "objective"
        return "images" if self.script is None else "script"

    def named(self) -> dict[str, Any]:
        """The fields of a specification that name the task."""
        name = self.objective if self.script is None else self.script
        if self.objective is not None and self.objective.endswith(".py"):
            name = f"{self.objective}:objective"
        return {"dataset": name, "kind": self.kind, "folder": str(Path.cwd())}


task_options = together(
    "own",
    TaskOptions,
    {
        "objective": click.option(
            "--objective",
            metavar="FILE.py:NAME",
            help="Search this Optuna objective in place of images: objective(trial), or "
            "objective(trial, run) to save checkpoints.",
        ),
        "script": click.option(
            "--script",
            metavar="COMMAND",
            help="Search this command: it gets {parameters} of --space and prints a line of JSON "
            "a step.",
        ),
        "metric": click.option(
            "--metric", metavar="NAME", help="What they report.  [default: value]"
        ),
        "direction": click.option(
            "--direction",
            type=click.Choice(["minimize", "maximize"]),
            help="Where better values lie.  [default: as the file or the metric's name says, else "
            "minimize]",
        ),
    },
)
"""Adds the options of a `TaskOptions`, passed on as `own`."""


def space_named(place: str) -> dict[str, Any]:
    """The fields of a specification that name the space at `place`; "" for none."""
    space = load_space(place) if place else None
    data = None if space is None or place in SPACES else to_data(space)
    return {"space": place, "space_data": data}


def own_task(
    spec: StudySpec, metric: str | None, direction: str | None, epochs: int | None
) -> OwnTask:
    """The objective or command of a specification; what is None is the task's to say.

    Raises:
        NotFoundError: If a file of it is not on this machine.
        InvalidInputError: If it is of no use.
    """
    # Where the folder is not, the study has come from another machine.
    folder = Path(spec.folder) if Path(spec.folder).is_dir() else Path.cwd()
    given: dict[str, Any] = {"metric": metric, "direction": direction, "max_resource": epochs}
    space = spec.search_space
    if spec.kind == "objective":
        # What it imports may take long, as torch does.
        said = threading.Timer(_PATIENCE_SECONDS, info, [f"Importing {spec.dataset}"])
        said.daemon = True
        said.start()
        try:
            return FunctionTask(spec.dataset, folder=folder, space=space, **given)
        finally:
            said.cancel()
    assert space is not None  # A specification of a command has one.
    chosen = {key: value for key, value in given.items() if value is not None}
    return ScriptTask(spec.dataset, space, folder, **chosen)


def fitted(spec: StudySpec, task: OwnTask, thaw: bool | None) -> StudySpec:
    """`spec` with what its task says, and whether its stopped trials may be continued.

    Raises:
        InvalidInputError: If they are to be continued, but nothing is saved.
    """
    if thaw and not task.saves:
        raise InvalidInputError(f"--thaw needs a task that saves: {_how_to_save(spec)}.")
    return replace(
        spec,
        dataset_fingerprint=task.fingerprint,
        direction=task.direction,
        metric=task.metric,
        epochs=task.max_resource,
        thaw=(spec.pruner == "dora" and task.saves) if thaw is None else thaw,
    )


def remarks(spec: StudySpec, task: OwnTask) -> list[str]:
    """What whoever starts a study of the task should know."""
    assumed = []
    if "direction" in task.assumed:
        assumed.append(f"--direction {spec.direction}")
    if "epochs" in task.assumed:
        assumed.append(f"--max-resource {spec.epochs} (the last step that is reported)")
    lines = [f"Assumed  {', '.join(assumed)}"] * bool(assumed)
    if not task.saves:
        lines.append(
            f"This {spec.kind} saves nothing: an interrupted trial begins anew, and a stopped one "
            f"is never continued; {_how_to_save(spec)}."
        )
    return lines


def _how_to_save(spec: StudySpec) -> str:
    if spec.kind == "objective":
        return "one that takes (trial, run) can save, by run.report(value, step, save=...)"
    return "one that knows {checkpoint} or RUN_CHECKPOINT can save there"


def describe(spec: StudySpec) -> tuple[str, str]:
    """The task, and the length of a trial, in words."""
    better = "larger" if spec.direction == "maximize" else "smaller"
    return (
        f"Task     {spec.dataset}: {spec.metric}, {better} is better",
        f"at most {counted(spec.epochs, 'step')} a trial",
    )

"""`study`: everything one does with a study."""

from __future__ import annotations

import click

from optuna_deepweeds.cli._lazy import LazyGroup

_ROOM = "optuna_deepweeds.cli"


@click.group(
    cls=LazyGroup,
    lazy={
        "run": (f"{_ROOM}.study_run:run", "Start a study, or go on with it."),
        "resume": (f"{_ROOM}.study_run:resume", "Go on with a study by its name alone."),
        "stop": (f"{_ROOM}.study_manage:stop", "Let running trials finish and start no more."),
        "list": (f"{_ROOM}.study_show:list_", "List the studies of a storage."),
        "status": (f"{_ROOM}.study_show:status", "Where a study stands."),
        "watch": (f"{_ROOM}.study_watch:watch", "Show a study as it goes on."),
        "best": (f"{_ROOM}.study_show:best", "The best trial; saves its network on request."),
        "trials": (f"{_ROOM}.study_show:trials", "List trials, or the failed ones with reasons."),
        "compare": (f"{_ROOM}.report:compare", "Compare studies, with statistics over seeds."),
        "report": (f"{_ROOM}.report:report", "Write a study's report as one HTML file."),
        "evaluate": (f"{_ROOM}.evaluate:evaluate", "Test the best networks on the test split."),
        "export": (f"{_ROOM}.study_manage:export", "Write a whole study to one file."),
        "import": (f"{_ROOM}.study_manage:import_", "Read an exported study into a storage."),
        "fork": (f"{_ROOM}.study_fork:fork", "Copy a study, or begin another one from it."),
        "reap": (f"{_ROOM}.study_manage:reap", "Queue the trials of dead workers again."),
        "delete": (f"{_ROOM}.study_manage:delete", "Delete a study and its files."),
    },
)
def study() -> None:
    """Run, resume, inspect and compare studies."""

"""`worker`: joins a study from wherever its storage is reached."""

from __future__ import annotations

from dataclasses import replace

import click

from optuna_deepweeds.cli._complete import study_name
from optuna_deepweeds.cli._output import info, storage_option
from optuna_deepweeds.cli._signals import StopFlag
from optuna_deepweeds.cli._values import WorkerOptions, worker_options

_LAUNCHED_WAIT = 60.0
"""Seconds for which a worker that a launcher started waits for its storage."""


@click.command()
@study_name
@worker_options(without=("workers", "engine", "gpus"))
@click.option("--quiet", is_flag=True, help="Show no progress.")
@storage_option
def worker(name: str, options: WorkerOptions, quiet: bool, storage_url: str | None) -> int:
    """Run trials of study NAME until its total is reached, beside any other workers.

    Start as many as you like, on any machine that reaches the storage and the images.
    """
    from optuna_deepweeds.cli._work import check_device, load_task, run_workers
    from optuna_deepweeds.report.dashboard_note import publish
    from optuna_deepweeds.studies import manager

    stop = StopFlag(quiet=quiet)
    # Nobody watches a launched worker: it sits out a restart of the server instead of failing.
    study = manager.open_study(name, storage_url, wait=_LAUNCHED_WAIT if quiet else 0.0)
    spec = manager.study_spec(study)
    task = load_task(spec, options)
    if options.accept_changes:
        manager.accept(study, task.fingerprint)
    if spec.kind == "images":  # Own tasks see for themselves.
        options = replace(options, device=check_device(options.device))
    code, ending = run_workers(study, task, options, stop, quiet=quiet)
    if not quiet:  # A launched worker leaves that to its launcher.
        publish(study, task=task)
        info(ending)
    return code

"""`worker`: joins a study from wherever its storage is reached."""

from __future__ import annotations

from pathlib import Path

import click

from optuna_deepweeds.cli._output import info, storage_option
from optuna_deepweeds.cli._progress import Display
from optuna_deepweeds.cli._signals import StopFlag

_LAUNCHED_WAIT = 60.0
"""Seconds for which a worker that a launcher started waits for its storage."""


@click.command()
@click.argument("name")
@click.option("--device", help="cpu, cuda or cuda:N; the default is CUDA where there is one.")
@click.option("--deterministic", is_flag=True, help="Reproducible kernels on CUDA, slower.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the images lie.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@storage_option
def worker(
    name: str,
    device: str | None,
    deterministic: bool,
    data_dir: Path | None,
    quiet: bool,
    storage_url: str | None,
) -> int:
    """Run trials of study NAME until its total is reached, beside any other workers.

    Start as many as you like, on any machine that reaches the storage and the images.
    """
    from optuna_deepweeds.cli.study_run import check_device, load_task
    from optuna_deepweeds.studies import manager
    from optuna_deepweeds.studies.worker import Worker

    stop = StopFlag(quiet=quiet)
    # Nobody watches a launched worker: it sits out a restart of the server instead of failing.
    study = manager.open_study(name, storage_url, wait=_LAUNCHED_WAIT if quiet else 0.0)
    task = load_task(manager.study_spec(study), data_dir, deterministic=deterministic)
    display = Display(study, manager.study_budget(study), quiet=quiet)
    ending = Worker(
        study,
        task,
        observer=display,
        should_stop=stop,
        device=check_device(device),
    ).run()
    display.clear()
    if not quiet:  # A launched worker leaves that to its launcher.
        from optuna_deepweeds.report.dashboard_note import publish

        publish(study, task=task)
        info(f"Worker ends: {ending.value}.")
    return stop.exit_code

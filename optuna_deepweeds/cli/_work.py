"""Runs the workers of a study and says before and after how it stands."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import click
import optuna

from optuna_deepweeds.cli._output import duration, info
from optuna_deepweeds.cli._progress import Display
from optuna_deepweeds.cli._signals import StopFlag
from optuna_deepweeds.report.dashboard_note import publish
from optuna_deepweeds.report.standing import cost, counted, standing
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.ending import raised
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.tasks import ImageTask

_SECONDS_BETWEEN_LOOKS = 2.0


def print_plan(
    name: str,
    spec: StudySpec,
    budget: Budget,
    storage_url: str | None,
    device: str,
    task: ImageTask,
) -> None:
    from optuna_deepweeds.studies.storage import default_url, redact

    images = task.images
    limits = [f"{budget.trials} trials" if budget.trials else ""]
    limits.append(duration(budget.seconds) if budget.seconds else "")
    limits.append(f"{budget.epochs} epochs" if budget.epochs else "")
    thaw = " with thaw" if spec.thaw else ""
    info(
        f"Study    {name}\n"
        f"Images   {spec.dataset}: {len(images.train)} train, {len(images.valid)} validation, "
        f"{len(images.classes)} classes\n"
        f"Search   space {spec.space}, sampler {spec.sampler}, pruner {spec.pruner}{thaw}, "
        f"seed {spec.seed}\n"
        f"Budget   {', '.join(limit for limit in limits if limit)}; "
        f"{counted(spec.epochs, 'epoch')} a network; device {device}\n"
        f"Storage  {redact(storage_url or default_url())}"
    )


def work(
    study: optuna.Study,
    task: ImageTask,
    *,
    workers: int,
    engine: str,
    gpus: float,
    device: str | None,
    data_dir: Path | None,
) -> int:
    """Run one worker here, or several elsewhere, and print how the study stands afterwards."""
    from optuna_deepweeds.studies import manager

    publish(study, with_figures=False, with_artifacts=False)
    display = Display(study, manager.study_budget(study))
    stop = StopFlag()
    if workers == 1 and engine == "local":
        from optuna_deepweeds.studies.worker import Worker

        worker = Worker(
            study,
            task,
            observer=display,
            should_stop=stop,
            device=device,
        )
        ending = f"Ended: {worker.run().value}."
        code = stop.exit_code
    else:
        arguments = ["--deterministic"] if task.deterministic else []
        arguments += ["--data-dir", str(data_dir.resolve())] if data_dir is not None else []
        code = _launch(study, workers, engine, gpus, device, arguments, display, stop)
        ending = "All workers ended." if code == 0 else f"The workers ended with code {code}."
    display.clear()
    publish(study, task=task)
    if not stop():
        info(ending)
    print_result(study)
    return stop.exit_code or code


def _launch(
    study: optuna.Study,
    workers: int,
    engine: str,
    gpus: float,
    device: str | None,
    arguments: list[str],
    display: Display,
    stop: StopFlag,
) -> int:
    """Run the workers by an engine; returns its exit code."""
    from optuna_deepweeds.studies import manager
    from optuna_deepweeds.studies.launch import WorkerCommand, launch, worker_program

    if device is not None:
        arguments = ["--device", device, *arguments]
    program = worker_program(click.get_current_context().find_root().params.get("verbose", 0))
    url = manager.storage_url(study)
    command = WorkerCommand(study.study_name, url, tuple(arguments), program)
    shown_at = 0.0

    def show() -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at > _SECONDS_BETWEEN_LOOKS:
            shown_at = time.monotonic()
            display.refresh(study)

    return launch(
        engine, command, workers, device=device, gpus=gpus, should_stop=stop, on_tick=show
    ).exit_code


def print_result(study: optuna.Study) -> None:
    from optuna_deepweeds.studies import manager

    spec = manager.study_spec(study)
    state = progress(study.get_trials(deepcopy=False), study.direction)
    name = shlex.quote(study.study_name)
    info(standing(state, spec.metric))
    info(cost(state, spec.epochs))
    resume = f"study resume {name}{raised(manager.study_budget(study), state)}"
    best = f"study best {name} | " if state.best is not None else ""
    info(f"Next: {best}study report {name} | {resume} | dashboard")

"""Runs the workers of a study and says before and after how it stands."""

from __future__ import annotations

import shlex
import textwrap
from contextlib import closing

import click
import optuna

from optuna_deepweeds.cli._display import Display
from optuna_deepweeds.cli._output import info, typed
from optuna_deepweeds.cli._own_task import describe, own_task
from optuna_deepweeds.cli._progress import Steps
from optuna_deepweeds.cli._signals import StopFlag
from optuna_deepweeds.cli._values import WorkerOptions
from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.errors import InvalidInputError, SpecMismatchError
from optuna_deepweeds.pruners.rungs import outlook
from optuna_deepweeds.report.dashboard_note import publish
from optuna_deepweeds.report.standing import cost, counted, duration, flatness, standing
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.ending import raised
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.tasks import ImageTask, Task, make_task


def load_task(spec: StudySpec, options: WorkerOptions) -> Task:
    """The task of a study as it is on this machine.

    Raises:
        NotFoundError: If its images or files are not on this machine.
        InvalidInputError: If its images are others than the study's, or its file is of no use.
        SpecMismatchError: If its file has changed.
    """
    if spec.kind == "images":
        return load_images(spec, options)
    task = own_task(spec, spec.metric, spec.direction, spec.epochs)
    if spec.dataset_fingerprint not in ("", task.fingerprint) and not options.accept_changes:
        raise SpecMismatchError(
            f"{spec.dataset} has changed since the study began; --accept-changes goes on with it, "
            "`study fork NAME NEW` begins a new study that learns from this one."
        )
    return task


def load_images(spec: StudySpec, options: WorkerOptions) -> ImageTask:
    """The task of a study of images.

    Raises:
        NotFoundError: If they are not on this machine.
        InvalidInputError: If they are others than the study's, or it is of another kind.
    """
    if spec.kind != "images":
        raise InvalidInputError(f"this needs a study of images, but got one of {spec.dataset}.")
    with closing(Steps()) as progress:
        return make_task(
            spec.dataset,
            space=spec.search_space or "",
            epochs=spec.epochs,
            fold=spec.fold,
            size=spec.size,
            group_by=spec.group_by,
            fingerprint="" if options.accept_changes else spec.dataset_fingerprint,
            data_dir=options.data_dir,
            training={**options.training, "keep_best": spec.keep == "best"},
            progress=progress,
        )


def check_device(device: str | None) -> str:
    """The device to train on; refuses one that is not there."""
    from optuna_deepweeds.training.runtime import choose_device

    return str(choose_device(device))


def print_images(images: Dataset, size: int, *, is_named: bool = False) -> None:
    """Say on stderr what a study is trained on, before torch is loaded, which takes seconds."""
    head = [] if is_named else [f"Images   {images.name}, {size}x{size}"]
    info("\n".join([*head, *(f"{'':9}{line}" for line in images.lines())]))


def print_plan(
    name: str,
    spec: StudySpec,
    budget: Budget,
    storage_url: str | None,
    device: str | None,
    task: Task,
) -> None:
    """Say on stderr what a study is about to do; `print_images` has told of images."""
    from optuna_deepweeds.studies.storage import default_url, redact

    if isinstance(task, ImageTask):
        kept = ", its best kept" if spec.keep == "best" else ""
        what, most = "", f"{counted(spec.epochs, 'epoch')} a network{kept}; device {device}"
    else:
        what, most = describe(spec)
        what += "\n"
    space = f"space {spec.space}" if spec.space else "as the objective suggests"
    limits = [counted(budget.trials, "trial") if budget.trials else ""]
    limits.append(duration(budget.seconds) if budget.seconds else "")
    limits.append(counted(budget.epochs, "epoch") if budget.epochs else "")
    thaw = " with thaw" if spec.thaw else ""
    plan = f"Pruning  {outlook(spec.epochs)}" if spec.thaw else ""
    plan = textwrap.fill(plan, 79, subsequent_indent=" " * 9) + "\n" * bool(plan)
    info(
        f"Study    {name}\n"
        f"{what}"
        f"Search   {space}, sampler {spec.sampler}, pruner {spec.pruner}{thaw}, "
        f"seed {spec.seed}\n"
        f"{plan}Budget   {', '.join(limit for limit in limits if limit)}; {most}\n"
        f"Storage  {redact(storage_url or default_url())}"
    )


def work(study: optuna.Study, task: Task, options: WorkerOptions) -> int:
    """Run a study's workers, say how it stands afterwards, and return the exit code."""
    publish(study, note_only=True)
    misleading = getattr(study.pruner, "misleading", None)
    if misleading is not None and (steps := misleading(study)):
        info(
            f"Pruning  no pause after epoch {steps[-1]} or before: of the better half of earlier "
            "trials, those ahead there came to less"
        )
    stop = StopFlag()
    code, ending = run_workers(study, task, options, stop)
    publish(study, task=task)
    if not stop():
        info(ending)
    _print_result(study)
    return code


def run_workers(
    study: optuna.Study,
    task: Task,
    options: WorkerOptions,
    stop: StopFlag,
    *,
    quiet: bool = False,
) -> tuple[int, str]:
    """Run one worker in this process, or several elsewhere, until they leave.

    Returns:
        The exit code, and a sentence that says why they left.
    """
    display = Display(study, manager.study_budget(study), quiet=quiet)
    if options.are_elsewhere:
        code = _launch(study, options, display, stop)
        ending = "All workers ended." if code == 0 else f"The workers ended with code {code}."
    else:
        from optuna_deepweeds.studies.worker import Worker

        worker = Worker(
            study,
            task,
            observer=display,
            should_stop=stop,
            device=options.device,
            trial_seconds=options.trial_timeout,
            stop_when_flat=options.stop_when_flat,
        )
        code, ending = 0, f"Ended: {worker.run().value}."
    display.clear()
    return stop.exit_code or code, ending


def _launch(study: optuna.Study, options: WorkerOptions, display: Display, stop: StopFlag) -> int:
    from optuna_deepweeds.studies.launch import WorkerCommand, launch, worker_program

    asked = click.get_current_context().find_root().params
    program = worker_program(*["-v"] * asked["verbose"], "--log-format", asked["log_format"])
    url = manager.storage_url(study)
    command = WorkerCommand(study.study_name, url, tuple(options.arguments()), program)
    result = launch(
        options.engine,
        command,
        options.workers,
        device=options.device,
        gpus=options.gpus,
        should_stop=stop,
        on_tick=display.refresh,
    )
    display.refresh()
    return result.exit_code


def _print_result(study: optuna.Study) -> None:
    spec = manager.study_spec(study)
    state = progress(study.get_trials(deepcopy=False), study.direction)
    info(standing(state, spec.metric))
    info(cost(state, spec.epochs))
    if said := flatness(study.user_attrs, spec.metric):
        info(said)
    name = shlex.quote(study.study_name)
    further = raised(manager.study_budget(study), state)
    commands = [] if further is None else [f"study resume {name}{further}"]
    commands += [f"study best {name}"] * (state.best is not None)
    commands += [f"study report {name}", f"dashboard {name}"]
    info("\n".join(f"Next: {typed(command)}" for command in commands))

"""`study run` and `study resume`."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optuna_deepweeds.cli._complete import complete_study, one_of, study_name
from optuna_deepweeds.cli._output import info, storage_option
from optuna_deepweeds.cli._own_task import (
    TaskOptions,
    fitted,
    own_task,
    remarks,
    space_named,
    task_options,
)
from optuna_deepweeds.cli._values import (
    WorkerOptions,
    budget_options,
    group_by_option,
    size_option,
    worker_options,
    write_problem,
)
from optuna_deepweeds.cli._work import (
    check_device,
    load_images,
    load_task,
    print_images,
    print_plan,
    work,
)
from optuna_deepweeds.datasets import DATASETS, is_folder
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.pruners import PRUNERS
from optuna_deepweeds.report.standing import counted, standing_of
from optuna_deepweeds.samplers import PORTFOLIO_SIZE, SAMPLERS
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies.launch import check_engine
from optuna_deepweeds.studies.spec import KEEP, MAX_EPOCHS, MAX_SECONDS, Budget, StudySpec
from optuna_deepweeds.tasks import FunctionTask, ImageTask, ScriptTask, Task

if TYPE_CHECKING:
    from optuna_deepweeds.studies.storage import ResilientStorage

_DEMO_SECONDS = 240.0
"""Default time of a study on the demo images without a GPU: a first look, not a search."""
_TRIALS = 100


@click.command()
@click.argument("name", required=False, shell_complete=complete_study)
@click.option("--name", "name_option", help="The same as NAME.")
@click.option(
    "--dataset",
    default="auto",
    help=f"Images: {', '.join(DATASETS)}, or a folder of class folders, such as ./photos; auto "
    "takes deepweeds-balanced where it is prepared, else demo.",
)
@click.option("--fold", default=0, help="Official fold of deepweeds, 0 to 4.")
@size_option
@group_by_option
@task_options
@click.option(
    "--space",
    default="auto",
    help=f"One of {', '.join(SPACES)}, or a file: mine.py:SPACE, mine.toml; auto is course, and "
    "course-small on demo and folders without a GPU; an objective may suggest for itself.",
)
@click.option(
    "--sampler",
    default="rf_ei",
    shell_complete=one_of(lambda: SAMPLERS),
    help=f"One of {', '.join(SAMPLERS)}.",
)
@click.option(
    "--pruner",
    default="dora",
    shell_complete=one_of(lambda: PRUNERS),
    help=f"One of {', '.join(PRUNERS)}.",
)
@click.option(
    "--thaw/--no-thaw", default=None,
    help="Whether stopped trials may be continued from their checkpoints; on for dora.",
)  # fmt: skip
@click.option(
    "--keep", type=click.Choice(KEEP), default="last",
    help="Of images, which epoch's network and accuracy are a trial's; that of the best flatters, "
    "and `study evaluate` trains to the last.  [default: last]",
)  # fmt: skip
@click.option("--seed", default=0, help="Seed of sampler and training.")
@click.option(
    "--epochs", "--max-resource", "epochs",
    type=int,
    metavar="N",
    help="Epochs of a full training: of images up to 20; else the last step that is reported.  "
    "[default: 20]",
)  # fmt: skip
@budget_options
@click.option(
    "--priors",
    "prior_files",
    multiple=True,
    metavar="FILE",
    help="Earlier trials of the same task: a CSV file or URL#STUDY; may be given again.",
)
@click.option(
    "--enqueue-best", type=click.IntRange(0), default=0, metavar="K",
    help="Train the K best priors again.",
)  # fmt: skip
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="STUDY",
    help="A study of another task in this storage that informs the sampler; may be given again.",
)
@click.option(
    "--shipped-priors/--no-shipped-priors",
    default=True,
    help="Whether a new study of images without --priors and --source learns from the trials that "
    "come with the program, where they fit its space.",
)
@worker_options()
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, do nothing.")
@storage_option
def run(
    name: str | None,
    name_option: str | None,
    dataset: str,
    fold: int,
    size: int,
    group_by: str,
    own: TaskOptions,
    space: str,
    sampler: str,
    pruner: str,
    thaw: bool | None,
    keep: str,
    seed: int,
    epochs: int | None,
    budget: Budget,
    prior_files: tuple[str, ...],
    enqueue_best: int,
    sources: tuple[str, ...],
    shipped_priors: bool,
    options: WorkerOptions,
    dry_run: bool,
    storage_url: str | None,
) -> int:
    """Start a study, or go on with study NAME; the default is made from its specification.

    Nothing is lost when it is interrupted: run the same command again, or `study resume NAME`.
    """
    from optuna_deepweeds.studies import manager, warm_start
    from optuna_deepweeds.studies.storage import open_storage

    # Everything that can be wrong is looked at before the storage is touched.
    if None not in (name, name_option) and name != name_option:
        raise click.UsageError(f"NAME is {name!r}, but --name is {name_option!r}.")
    name = name if name_option is None else name_option
    check_engine(options.engine)
    if enqueue_best and not prior_files:
        raise InvalidInputError("--enqueue-best takes the best of --priors, but none are given.")
    is_own = own.kind != "images"
    of_images = (dataset, fold, size, group_by, keep)
    if is_own and of_images != ("auto", 0, StudySpec.size, "", "last"):
        names = "--dataset, --fold, --size, --group-by and --keep"
        raise click.UsageError(f"{names} are of images, not of --{own.kind}.")
    if own.kind == "script" and space == "auto":
        raise click.UsageError("--script needs --space, a file of the parameters that it gets.")
    default_space = "" if is_own else "course"
    named = own.named() if is_own else {"dataset": "demo" if dataset == "auto" else dataset}
    spec = StudySpec(
        **named,
        **space_named(default_space if space == "auto" else space),
        fold=fold,
        size=size,
        group_by=group_by,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        epochs=MAX_EPOCHS if epochs is None else epochs,
        thaw=pruner == "dora" if thaw is None else thaw,
        keep=keep,
        sources=sources,
    )
    priors = [prior for file in prior_files for prior in manager.read_source(file)]
    if name is not None:
        manager.check_name(name)
    task: Task
    chosen = options.device
    if is_own:
        task = own_task(spec, own.metric, own.direction, epochs)
        spec = fitted(spec, task, thaw)
        default = Budget(trials=_TRIALS)
    else:
        is_named = dataset == "demo" and size == StudySpec.size and spec.space in SPACES
        if is_named:  # To paint it takes a while, and nothing can be wrong with it.
            info(f"Images   demo, {size}x{size}")
        images = _make_task(spec, dataset == "auto", options)
        print_images(images.images, size, is_named=is_named)
        # The machines of a cluster have their own devices.
        is_here = options.engine == "local"
        chosen = check_device(chosen) if is_here else chosen or "of each machine"
        is_first_look = images.name == "demo" and chosen == "cpu"
        if space == "auto" and chosen == "cpu" and (is_first_look or is_folder(dataset)):
            images = replace(images, space=SPACES["course-small"])
        task = images
        spec = replace(
            spec,
            dataset=images.name,
            dataset_fingerprint=images.fingerprint,
            space=images.space.name,
            direction=images.direction,
            metric=images.metric,
        )
        default = Budget(trials=_TRIALS, seconds=_DEMO_SECONDS if is_first_look else MAX_SECONDS)
    if name is None:
        name = _default_name(spec)

    is_alone = shipped_priors and not priors and not sources
    shipped = warm_start.shipped_priors(spec) if is_alone else []
    _check_places(task, storage_url)
    storage = _storage_if_there(spec, storage_url) if dry_run else open_storage(storage_url)
    is_new = storage is None or name not in manager.study_names(storage)
    if priors and not spec.space and is_new:
        raise InvalidInputError(
            "--priors are matched with parameters, which this objective has not shown yet: name a "
            "--space, or run one trial first (--trials 1) and the rest with --priors."
        )
    if options.accept_changes and storage is not None and not is_new:
        spec = _accept_changes(name, spec, storage, dry_run)
    study = None
    if storage is not None and not dry_run:
        study, is_new = manager.create(
            name, spec, budget, storage, default=default, stop_when_flat=options.stop_when_flat
        )
    elif storage is not None:
        manager.check(name, spec, storage)
        study = None if is_new else manager.load_plain(name, storage)
    total = (default if study is None else manager.study_budget(study)).updated(budget)
    url = storage_url if storage is None else str(storage.url)
    print_plan(name, spec, total, url, chosen, task)
    if study is not None and not is_new:
        info(f"Going on with the study. {standing_of(study)}")
    elif isinstance(task, FunctionTask | ScriptTask):
        for line in remarks(spec, task):
            info(line)
    if shipped and (study is None or not study.get_trials(deepcopy=False)):
        names = ", ".join(dict.fromkeys(prior.source for prior in shipped))
        n_first = min(PORTFOLIO_SIZE, len(shipped))
        info(
            f"Priors   {counted(len(shipped), 'shipped trial')} ({names}) inform the sampler, "
            f"{n_first} of them are tried first, the best to its end; "
            "--no-shipped-priors leaves them out"
        )
        if study is not None and not dry_run:
            warm_start.add_shipped(study, shipped)
    for match in manager.source_summary(spec, storage):
        info(
            f"Source {match.name}: {counted(match.n_used, 'trial')} to inform the sampler, "
            f"{match.n_dropped} dropped (outside the space), "
            f"{counted(match.n_imputed, 'value')} filled in, "
            f"{counted(len(match.ignored), 'parameter')} ignored."
        )
    if study is None or dry_run:
        if priors:
            matching = manager.preview_priors(priors, spec, study)
            n_kept, n_dropped = len(matching.kept), len(matching.dropped)
            info(f"{n_kept + n_dropped} prior trials read: {n_kept} fit, {n_dropped} dropped.")
            for line in matching.lines():
                info(line)
        info("Dry run: nothing was done.")
        return 0
    if priors:
        for line in manager.add_priors(study, priors, enqueue_best=enqueue_best).lines():
            info(line)
    return work(manager.equip(study), task, options)


@click.command()
@study_name
@budget_options
@worker_options()
@storage_option
def resume(name: str, budget: Budget, options: WorkerOptions, storage_url: str | None) -> int:
    """Go on with study NAME: its name is all that is needed.

    Trials that were put back, or left by a killed process, are continued first.
    """
    from optuna_deepweeds.studies import manager

    check_engine(options.engine)
    study = manager.find(name, storage_url)
    spec = manager.study_spec(study)
    task = load_task(spec, options)
    if options.accept_changes:
        manager.accept(study, task.fingerprint)
    manager.study_budget(study).updated(budget)  # Refused before anything is said.
    info(f"Going on with study {name}. {standing_of(study)}")
    if options.engine == "local" and spec.kind == "images":
        check_device(options.device)
    manager.set_budget(study, budget, stop_when_flat=options.stop_when_flat)
    return work(manager.equip(study), task, options)


def _storage_if_there(spec: StudySpec, url: str | None) -> ResilientStorage | None:
    """The storage, or None where there is none yet."""
    from optuna_deepweeds.studies.storage import open_storage

    try:
        return open_storage(url, must_exist=True)
    except NotFoundError:
        if spec.sources:
            raise
        return None


def _check_places(task: Task, url: str | None) -> None:
    """Refuse a storage that cannot be made, and checkpoints that cannot be saved."""
    from optuna_deepweeds.studies.checkpoints import FOLDER_VARIABLE, default_base
    from optuna_deepweeds.studies.storage.engine import resolve_url
    from optuna_deepweeds.studies.storage.open import check_file

    resolved = resolve_url(url)
    if url is not None:  # The default folder is made with the study.
        check_file(resolved, must_exist=False)
    base = default_base(resolved.render_as_string())
    problem = write_problem(base / "checkpoint") if getattr(task, "saves", True) else ""
    if problem:
        raise InvalidInputError(
            f"checkpoints must be saved, but {problem} {FOLDER_VARIABLE} names another folder."
        )


def _make_task(spec: StudySpec, is_auto: bool, options: WorkerOptions) -> ImageTask:
    """The task of a new study; `is_auto` takes DeepWeeds where it is, before the demo images."""
    if is_folder(spec.dataset) and options.data_dir is not None:
        raise click.UsageError("--dataset says where a folder lies, so there is no --data-dir.")
    try:
        wanted = replace(spec, dataset="deepweeds-balanced") if is_auto else spec
        return load_images(wanted, options)
    except NotFoundError:
        if not is_auto or options.data_dir is not None:  # Asked for: nothing else will do.
            raise
    info(
        "DeepWeeds is not on this machine: this study runs on the demo images (generated "
        "plants).\nTo get DeepWeeds (468 MiB): optuna-deepweeds data prepare"
    )
    return load_images(spec, options)


def _accept_changes(
    name: str, spec: StudySpec, storage: ResilientStorage, dry_run: bool
) -> StudySpec:
    """Let the study `name` go on with a changed task, where nothing else differs.

    Returns:
        What it then is asked for: in a dry run, which changes nothing, as it is.
    """
    from optuna_deepweeds.studies import manager

    study = manager.load_plain(name, storage)
    stored = manager.study_spec(study)
    asked = replace(spec, dataset_fingerprint=stored.dataset_fingerprint)
    if stored.differences(asked):
        return spec
    if not dry_run:
        manager.accept(study, spec.dataset_fingerprint)
    return asked if dry_run else spec


def _default_name(spec: StudySpec) -> str:
    """A name for whoever gives none: another one for every specification."""
    default = StudySpec(dataset=spec.dataset)
    task = Path(spec.dataset).name if is_folder(spec.dataset) else spec.dataset
    parts = [_slug(task), _slug(spec.space) or "free", spec.sampler, spec.pruner]
    parts.append(f"seed{spec.seed}")
    parts += [f"{spec.size}px"] if spec.size != default.size else []
    parts += [f"by{zlib.crc32(spec.group_by.encode()):08x}"] if spec.group_by else []
    parts += [f"fold{spec.fold}"] if spec.fold != default.fold else []
    parts += [f"{spec.epochs}epochs"] if spec.epochs != default.epochs else []
    if spec.kind == "images" and spec.thaw != (spec.pruner == "dora"):
        parts.append("thaw" if spec.thaw else "nothaw")
    parts += [f"keep{spec.keep}"] if spec.keep != default.keep else []
    parts += [f"from-{source}" for source in spec.sources]
    return "-".join(parts)


def _slug(text: str) -> str:
    """`text` as a part of a name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-")[:80]

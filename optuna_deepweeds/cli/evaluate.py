"""`study evaluate`: the best configurations of a study on the test split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optuna_deepweeds import attributes
from optuna_deepweeds.cli._complete import study_name
from optuna_deepweeds.cli._output import emit, emit_record, format_option, info, storage_option
from optuna_deepweeds.cli._values import Output, WorkerOptions, worker_options
from optuna_deepweeds.datasets import NOTES
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError
from optuna_deepweeds.report.published import published_rows
from optuna_deepweeds.tasks.evaluation import PROTOCOLS, RECIPES

if TYPE_CHECKING:
    import optuna

    from optuna_deepweeds.tasks import ImageTask
    from optuna_deepweeds.tasks.evaluation import Evaluation, Score, TrialEvaluation


@click.command()
@study_name
@click.option("--top-k", default=1, help="How many trials to retrain.")
@click.option("--seeds", "n_seeds", default=3, help="Repetitions of each.")
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    default="holdout",
    help="holdout: train on train + validation, score on test. cv3: 3-fold cross-validation "
    "within train + validation.",
)
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default="study",
    help="study: train as the search did. tuned: the same network and optimiser with a rising "
    "and falling learning rate, mirror images and shifts.",
)
@worker_options("device", "deterministic", "data_dir")
@click.option("--output", type=Output(), help="Write the best trial's network, for `predict`.")
@click.option("--onnx", type=Output(), help="Write it to an ONNX file, checked against torch.")
@format_option
@storage_option
def evaluate(
    name: str,
    top_k: int,
    n_seeds: int,
    protocol: str,
    recipe: str,
    options: WorkerOptions,
    output: Path | None,
    onnx: Path | None,
    fmt: str,
    storage_url: str | None,
) -> None:
    """Retrain the best trials of study NAME and report accuracy on images never looked at.

    The trials are chosen by their validation accuracy in the study, and so is the network that
    is saved. CSV prints one line a trial, JSON everything.
    """
    from optuna_deepweeds.cli._work import load_images
    from optuna_deepweeds.studies import manager

    if protocol != "holdout" and (output or onnx):
        raise InvalidInputError(
            f"a network is saved with `--protocol holdout` alone, but got {protocol!r}."
        )
    study = manager.find(name, storage_url)
    task = load_images(manager.study_spec(study), options)
    evaluation = evaluate_study(
        study,
        task,
        top_k=top_k,
        n_seeds=n_seeds,
        protocol=protocol,
        recipe=recipe,
        device=options.device,
        on_score=_show_score,
    )
    _emit(evaluation, fmt)
    if task.name in NOTES:
        info(NOTES[task.name])
    if protocol == "holdout":  # What `study report` and `study compare` show as test results.
        store_evaluation(study, evaluation)
    if not evaluation.trials[0].scores:
        raise DeepWeedsError("the best trial must train at least once, but every training failed.")
    network = evaluation.trials[0].network
    if network is not None and output is not None:
        network.save(output)
        info(f"Saved the network of trial {evaluation.trials[0].trial} to {output}.")
    if network is not None and onnx is not None:
        from optuna_deepweeds.training.export import export_onnx

        difference = export_onnx(network, onnx)
        info(f"Saved it to {onnx}; largest difference from torch {difference:.1g}.")


def evaluate_study(study: optuna.Study, task: ImageTask, **options: Any) -> Evaluation:
    """Retrain the best trials of `study` and tell what failed; options as for `evaluate`."""
    from optuna_deepweeds.studies import manager
    from optuna_deepweeds.studies.accounting import ranked
    from optuna_deepweeds.tasks.evaluation import evaluate

    best = ranked(study.get_trials(deepcopy=False), study.direction)
    seed = manager.study_spec(study).seed
    evaluation = evaluate(task, best, study=study.study_name, seed=seed, **options)
    for trial in evaluation.trials:
        for failure in trial.failures:
            info(f"Failed: {failure}")
    return evaluation


def store_evaluation(study: optuna.Study, evaluation: Evaluation) -> None:
    """Keep `evaluation` with the study and show it in the dashboard."""
    from optuna_deepweeds.report.dashboard_note import publish

    study.set_user_attr(attributes.EVALUATION, evaluation.to_json())
    publish(study)


def _show_score(score: Score) -> None:
    """Tell one score on stderr."""
    fold = f", fold {score.fold}" if score.fold else ""
    info(
        f"trial {score.trial}, seed {score.seed}{fold}: accuracy {score.accuracy:.4f} "
        f"({score.seconds:.0f} s)"
    )


_MOST_COLUMNS = 30
_COLUMNS = ("trial", "valid_accuracy", "mean", "sd", "macro_f1", "seeds")


def _emit(evaluation: Evaluation, fmt: str) -> None:
    published = published_rows(evaluation.dataset)
    if fmt == "json":
        emit_record(evaluation.to_json() | {"published": published}, fmt=fmt)
        return
    emit([trial.row() for trial in evaluation.trials], columns=_COLUMNS, fmt=fmt)
    if fmt == "table" and evaluation.trials[0].scores:
        _emit_confusion(evaluation, evaluation.trials[0])
    if fmt == "table" and published:
        click.echo("\nPublished on the same task (other images in each split, 3 seeds):")
        emit(published, columns=("sampler", "pruner", "mean", "seeds"), fmt=fmt)


def _emit_confusion(evaluation: Evaluation, trial: TrialEvaluation) -> None:
    classes, recalls = evaluation.classes, evaluation.recalls(trial)
    if len(classes) > _MOST_COLUMNS:
        click.echo(f"\nTrial {trial.trial}, all seeds: what each class was most often taken for.")
        rows: list[dict[str, Any]] = [
            {"class": classes[true], "recall": recalls[classes[true]], "images": int(counts.sum())}
            | {
                "taken_for": [
                    f"{classes[k]} {counts[k]}" for k in (-counts).argsort()[:3] if counts[k]
                ]
            }
            for true, counts in enumerate(trial.confusion)
        ]
        emit(rows, fmt="table")
        return
    click.echo(f"\nTrial {trial.trial}, all seeds: true classes in rows, predicted in columns.")
    # Numbers head the columns: eight names side by side would not fit a terminal.
    numbers = [str(i) for i in range(1, len(classes) + 1)]
    rows = [
        {"class": f"{number} {name}", "recall": recalls[name]}
        | dict(zip(numbers, (int(count) for count in counts), strict=True))
        for number, name, counts in zip(numbers, classes, trial.confusion, strict=True)
    ]
    emit(rows, columns=("class", "recall", *numbers), fmt="table")

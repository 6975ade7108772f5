"""A study's curves for the trackers that people keep open, by the trackers' own writers.

Optuna's callbacks for them (optuna-integration) log what a trial ends with, within
`study.optimize`; these write stored studies, a run for each network with its whole curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.view import StudyView

_MOST_METRICS = 1000
"""Points that MLflow takes at a time."""


def write_runs(view: StudyView, folder: Path, tracker: str) -> tuple[int, str]:
    """Write every network of a study that has a curve into `folder`, as runs of `tracker`.

    Args:
        view: The study.
        folder: Made where it is missing; a study that it holds already is not written again.
        tracker: One of `TRACKERS`.

    Returns:
        The number of runs, and the command that shows them.

    Raises:
        InvalidInputError: The tracker is not installed, or has this study already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return len(_runs(view)), TRACKERS[tracker](view, folder)
    except ImportError as error:
        raise InvalidInputError(
            f"this needs the package {tracker}, but {error.name} is not installed: "
            f"pip install 'optuna-deepweeds[{tracker}]'."
        ) from None


def _runs(view: StudyView) -> list[FrozenTrial]:
    """The last trial of each network, which has the curve of those before."""
    ended = (t for t in view.trials if t.state.is_finished() and t.intermediate_values)
    return [trial for trial in ended if trial.number not in view.replaced]


def _points(trial: FrozenTrial) -> Iterator[tuple[int, float]]:
    return ((s, v) for s, v in sorted(trial.intermediate_values.items()) if math.isfinite(v))


def _tensorboard(view: StudyView, folder: Path) -> str:
    from torch.utils.tensorboard import SummaryWriter

    if (folder / view.name).exists():
        raise _is_there(view, folder)
    for trial in _runs(view):
        params = {k: v if v is not None else "None" for k, v in trial.params.items()}
        with SummaryWriter(folder / view.name / f"trial-{trial.number:04d}") as writer:
            for step, value in _points(trial):
                writer.add_scalar(view.metric, value, step)
            last = dict(_points(trial))
            ends = {f"last {view.metric}": last[max(last)]} if last else {}
            writer.add_hparams(params, ends, run_name=".")
    return f"tensorboard --logdir {folder}"


def _mlflow(view: StudyView, folder: Path) -> str:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    url = f"sqlite:///{folder.absolute()}/mlflow.db"
    client = MlflowClient(url)
    if client.get_experiment_by_name(view.name) is not None:
        raise _is_there(view, folder)
    place = (folder.absolute() / "artifacts").as_uri()
    experiment = client.create_experiment(view.name, place)
    for trial in _runs(view):
        start, end = (
            int(moment.timestamp() * 1000) if moment else 0
            for moment in (trial.datetime_start, trial.datetime_complete)
        )
        run = client.create_run(experiment, start, run_name=f"trial {trial.number}").info.run_id
        points = [Metric(view.metric, value, end, step) for step, value in _points(trial)]
        for i in range(0, len(points), _MOST_METRICS):
            client.log_batch(run, points[i : i + _MOST_METRICS])
        client.log_batch(run, params=[Param(k, str(v)) for k, v in trial.params.items()])
        client.set_terminated(run, _STATUS[trial.state], end)
    return f"mlflow ui --backend-store-uri {url}"


_STATUS = {
    TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"
}  # fmt: skip


def _wandb(view: StudyView, folder: Path) -> str:
    import wandb

    for trial in _runs(view):
        run = wandb.init(
            project=view.name,
            id=f"{view.user_attrs.get(attributes.UID, view.name)}-{trial.number}",
            name=f"trial {trial.number}",
            config=trial.params,
            dir=folder,
            mode="offline",
            settings=wandb.Settings(silent=True),
        )
        for step, value in _points(trial):
            run.log({view.metric: value}, step=step)
        run.finish(exit_code=int(trial.state == TrialState.FAIL))
    return f"wandb sync {folder}/wandb/offline-run-*"


TRACKERS: dict[str, Callable[[StudyView, Path], str]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}
"""Name -> what writes a study's runs into a folder, and returns the command that shows them."""


def _is_there(view: StudyView, folder: Path) -> InvalidInputError:
    return InvalidInputError(f"{folder} has runs of {view.name} already; name another folder.")

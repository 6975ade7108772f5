"""Curves written for other programs, read back by those."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.trackers import TRACKERS, write_runs
from optuna_deepweeds.report.view import StudyView
from tests.report.conftest import trial_at, view_of


@pytest.fixture
def view() -> StudyView:
    """Two networks: one was paused and continued, one failed."""
    paused = trial_at(0, 9, 0.3, 2, state=TrialState.PRUNED)
    complete = trial_at(9, 60, 0.5, 4)
    complete.user_attrs[attributes.ORIGIN] = 0
    return view_of([paused, complete, trial_at(60, 70, None, 1, state=TrialState.FAIL)])


def test_tensorboard_reads_the_curve_of_each_network(view: StudyView, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    n_runs, _ = write_runs(view, tmp_path, "tensorboard")
    runs = sorted((tmp_path / view.name).iterdir())
    assert n_runs == 2 and [run.name for run in runs] == ["trial-0001", "trial-0002"]
    events = EventAccumulator(str(runs[0])).Reload()
    read = {e.step: pytest.approx(e.value) for e in events.Scalars(view.metric)}
    assert read == view.trials[1].intermediate_values and len(read) == 4
    with pytest.raises(InvalidInputError, match="already"):
        write_runs(view, tmp_path, "tensorboard")


@pytest.mark.filterwarnings("ignore")  # Of its own way with its database.
def test_mlflow_reads_curves_parameters_and_states(view: StudyView, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    write_runs(view, tmp_path, "mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name(view.name).experiment_id
    failed, complete = client.search_runs([experiment])
    assert (complete.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert complete.data.params == {k: str(v) for k, v in view.trials[1].params.items()}
    history = client.get_metric_history(complete.info.run_id, view.metric)
    assert {m.step: m.value for m in history} == view.trials[1].intermediate_values
    with pytest.raises(InvalidInputError, match="already"):
        write_runs(view, tmp_path, "mlflow")


def test_wandb_gets_a_run_for_each_network(view: StudyView, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    write_runs(view, tmp_path, "wandb")
    assert len(list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))) == 2


def test_what_is_not_installed_is_named(
    view: StudyView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torch.utils.tensorboard", "mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    for tracker in TRACKERS:
        with pytest.raises(
            InvalidInputError, match=rf"pip install 'optuna-deepweeds\[{tracker}\]"
        ):
            write_runs(view, tmp_path, tracker)

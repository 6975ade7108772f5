"""The image task: what is reported, what a failure leaves, what a network is read from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from optuna_deepweeds import datasets
from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.errors import DivergedError, InvalidInputError
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.tasks import ImageTask, Run, make_task
from tests.tasks.test_evaluation import PARAMS

CONFIG = PARAMS | SPACES["course"].constants | {"use_BN": False, "batch_size": 16}


def lent(trial: optuna.Trial, folder: Path, config: dict[str, Any], **options: Any) -> Run:
    where = {"checkpoint": folder / "t.pt", "device": "cpu"}
    return Run(trial, config=config, seed=1, epochs=3, **where, **options)


def test_every_epoch_is_reported_also_those_that_only_the_checkpoint_knows(
    tiny_images: Dataset, tmp_path: Path
) -> None:
    shown: list[tuple[int, float]] = []
    task = ImageTask(tiny_images, SPACES["course"], 3)
    study = optuna.create_study(direction="maximize")
    trials = (study.ask(), study.ask())
    values = [
        task(t, lent(t, tmp_path, CONFIG, on_report=lambda *report: shown.append(report)))
        for t in trials
    ]
    curves = [t.intermediate_values for t in study.get_trials()]
    assert list(curves[0].items()) == shown[:3]
    assert curves[0] == curves[1] and sorted(curves[1]) == [1, 2, 3]
    assert values == [curves[0][3]] * 2
    assert (tmp_path / "t.pt").exists()


def test_a_diverged_run_says_so_and_leaves_no_checkpoint(
    tiny_images: Dataset, tmp_path: Path
) -> None:
    trial = optuna.create_study(direction="maximize").ask()
    run = lent(trial, tmp_path, CONFIG | {"learning_rate_init": 1e30})
    with pytest.raises(DivergedError, match="learning_rate_init"):
        ImageTask(tiny_images, SPACES["course"], 3)(trial, run)
    assert not run.checkpoint.exists()


def test_an_imported_trial_has_no_network(tiny_images: Dataset, tmp_path: Path) -> None:
    imported = optuna.create_trial(value=0.9)
    with pytest.raises(InvalidInputError, match="trial -?[0-9]+ is imported"):
        ImageTask(tiny_images, SPACES["course"], 3).network(imported, tmp_path / "t.pt")


def test_a_task_is_made_by_names_and_told_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for split in datasets.DEMO_SIZES:
        monkeypatch.setitem(datasets.DEMO_SIZES, split, 16)
    task = make_task("demo", space="course-small", epochs=3)
    assert (task.name, task.space.name, task.max_resource) == ("demo", "course-small", 3)
    same = make_task("demo", space="course", epochs=2, fingerprint=task.fingerprint)
    assert same.fingerprint == task.fingerprint
    with pytest.raises(InvalidInputError, match="must be those that the study began with"):
        make_task("demo", space="course", epochs=2, fingerprint="another")
    with pytest.raises(InvalidInputError, match="Did you mean 'demo'"):
        make_task("dmo", space="course", epochs=2)

"""`evaluate_study`: what is trained on what, and what is told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.evaluate import (
    Evaluation,
    Score,
    TrialEvaluation,
    evaluate_study,
    three_folds,
)
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage

PARAMS = {
    "n_conv_layers": 1,
    "use_BN": True,
    "global_avg_pooling": True,
    "n_channels_conv_0": 32,
    "n_fc_layers": 1,
    "n_channels_fc_0": 32,
    "batch_size": 8,
    "learning_rate_init": 0.01,
}


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    spec = StudySpec(
        dataset="demo", sampler="random", pruner="none", epochs=2, dataset_fingerprint="tiny"
    )
    storage = open_storage(f"sqlite:///{tmp_path}/optuna.db")
    return manager.create_or_continue("judged", spec, Budget(), storage)[0]


def add(study: optuna.Study, value: float, **params: Any) -> None:
    space = SPACES["course"]
    point = {**PARAMS, **params}
    study.add_trial(
        optuna.trial.create_trial(
            params=point,
            distributions={name: space[name].distribution for name in point},
            value=value,
        )
    )


def test_best_trials_are_retrained_and_scored_on_test_images(
    study: optuna.Study, tiny_images: Dataset
) -> None:
    add(study, 0.5)
    add(study, 0.9, n_channels_fc_0=48)
    add(study, 0.4)
    add(study, 0.7)
    seen: list[Score] = []
    result = evaluate_study(
        study, tiny_images, top_k=2, n_seeds=2, device="cpu", on_score=seen.append
    )
    assert [trial.trial for trial in result.trials] == [1, 3]
    assert [(score.trial, score.seed) for score in seen] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    for score in seen:
        assert score.confusion.sum() == len(tiny_images.test)
        assert np.array_equal(
            score.confusion.sum(axis=1), np.bincount(tiny_images.labels[tiny_images.test])
        )
    assert result.trials[0].config["kernel_size"] == 3
    assert result.network is not None
    predicted = result.network.predict_proba(tiny_images.images[tiny_images.test]).argmax(1)
    accuracy = (predicted == tiny_images.labels[tiny_images.test]).mean()
    assert accuracy == seen[0].accuracy
    assert result.network.config["n_channels_fc_0"] == 48


def test_same_study_same_evaluation(study: optuna.Study, tiny_images: Dataset) -> None:
    add(study, 0.5)
    first, again = (
        evaluate_study(study, tiny_images, n_seeds=1, device="cpu").network for _ in range(2)
    )
    assert first is not None and again is not None
    assert first.train_losses == again.train_losses


def test_cross_validation_leaves_the_test_images_alone(
    study: optuna.Study, tiny_images: Dataset
) -> None:
    add(study, 0.5)
    blinded = tiny_images.images.copy()
    blinded[tiny_images.test] = 0
    results = [
        evaluate_study(study, data, n_seeds=1, protocol="cv3", device="cpu")
        for data in (tiny_images, replace(tiny_images, images=blinded))
    ]
    assert [score.fold for score in results[0].trials[0].scores] == [1, 2, 3]
    assert results[0].network is None
    assert np.array_equal(results[0].trials[0].confusion, results[1].trials[0].confusion)
    scored = len(tiny_images.train) + len(tiny_images.valid)
    assert results[0].trials[0].confusion.sum() == scored


def test_folds_share_out_every_class(tiny_images: Dataset) -> None:
    folds = three_folds(tiny_images)
    pool = np.concatenate([tiny_images.train, tiny_images.valid])
    assert sorted(np.concatenate(folds)) == sorted(pool)
    for label in range(2):
        sizes = [int((tiny_images.labels[fold] == label).sum()) for fold in folds]
        assert max(sizes) - min(sizes) <= 1


def test_recipe_changes_training_and_nothing_that_the_space_fixes(
    study: optuna.Study, tiny_images: Dataset
) -> None:
    add(study, 0.5)
    result = evaluate_study(study, tiny_images, n_seeds=1, recipe="tuned", device="cpu")
    config = result.trials[0].config
    assert config["schedule"] == "one_cycle"
    assert SPACES["course"].problem(config) is None
    assert "optimizer" not in config


def test_training_that_fails_is_told(study: optuna.Study, tiny_images: Dataset) -> None:
    rate = optuna.distributions.FloatDistribution(1e-5, 1e40)
    space = SPACES["course"].distributions | {"learning_rate_init": rate}
    point = {**PARAMS, "learning_rate_init": 1e30}
    study.add_trial(
        optuna.trial.create_trial(
            params=point, distributions={name: space[name] for name in point}, value=0.5
        )
    )
    result = evaluate_study(study, tiny_images, n_seeds=2, device="cpu")
    (trial,) = result.trials
    assert len(trial.failures) == 2
    assert "trial 0, seed 1: the training loss must stay finite" in trial.failures[1]
    assert math.isnan(trial.mean)
    assert result.network is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"top_k": 0}, "top_k >= 1"),
        ({"n_seeds": 0}, "n_seeds >= 1"),
        ({"protocol": "loo"}, "protocol must be one of"),
        ({"recipe": "secret"}, "recipe must be one of"),
    ],
)
def test_wrong_arguments(
    study: optuna.Study, tiny_images: Dataset, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        evaluate_study(study, tiny_images, **options)


def test_study_without_complete_trial(study: optuna.Study, tiny_images: Dataset) -> None:
    with pytest.raises(NotFoundError, match="no complete trial"):
        evaluate_study(study, tiny_images)


def test_figures_of_known_confusion_matrices() -> None:
    first = Score(4, 0, 0, np.array([[3, 1], [0, 4]]), 1.0)
    second = Score(4, 1, 0, np.array([[2, 2], [2, 2]]), 1.0)
    trial = TrialEvaluation(4, 0.8, {}, (first, second))
    assert first.accuracy == 7 / 8
    assert first.macro_f1 == pytest.approx((6 / 7 + 8 / 9) / 2)
    assert trial.mean == pytest.approx((7 / 8 + 1 / 2) / 2)
    assert trial.standard_deviation == pytest.approx(np.std([7 / 8, 1 / 2], ddof=1))
    assert list(trial.recalls) == [5 / 8, 6 / 8]
    empty = TrialEvaluation(4, 0.8, {}, (), ("trial 4, seed 0: no",))
    assert math.isnan(empty.mean) and math.isnan(empty.standard_deviation)
    assert empty.confusion.shape == (0, 0)


def test_command_prints_figures_without_nan() -> None:
    from optuna_deepweeds.cli.evaluate import _emit

    score = Score(4, 0, 0, np.array([[3, 1], [0, 4]]), 1.0)
    trials = (TrialEvaluation(4, 0.8, {"a": 1}, (score,)), TrialEvaluation(5, 0.7, {}, (), ("x",)))
    for fmt in ("table", "json", "csv"):
        _emit(
            Evaluation("s", "deepweeds-balanced", "holdout", "study", ("a", "b"), trials, None),
            fmt,
        )

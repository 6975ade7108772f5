"""`evaluate`: what is trained on what, and what is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest

from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.tasks import ImageTask
from optuna_deepweeds.tasks.evaluation import (
    Evaluation,
    Score,
    TrialEvaluation,
    evaluate,
)

PARAMS = {
    "n_conv_layers": 1, "use_BN": True, "global_avg_pooling": True, "n_channels_conv_0": 32,
    "n_fc_layers": 1, "n_channels_fc_0": 32, "batch_size": 8, "learning_rate_init": 0.01,
}  # fmt: skip


def trial(number: int, value: float, **params: Any) -> optuna.trial.FrozenTrial:
    space, point = SPACES["course"], {**PARAMS, **params}
    distributions = {name: space[name].distribution for name in point}
    made = optuna.trial.create_trial(params=point, distributions=distributions, value=value)
    made.number = number
    return made


def judged(images: Dataset, *trials: optuna.trial.FrozenTrial, **options: Any) -> Evaluation:
    task = ImageTask(images, SPACES["course"], 2)
    return evaluate(task, trials, study="judged", seed=0, device="cpu", **options)


def test_best_trials_are_retrained_and_scored_on_test_images(tiny_images: Dataset) -> None:
    seen: list[Score] = []
    trials = [trial(1, 0.9, n_channels_fc_0=48), trial(3, 0.7), trial(0, 0.5)]
    result = judged(tiny_images, *trials, top_k=2, n_seeds=2, on_score=seen.append)
    assert [tested.trial for tested in result.trials] == [1, 3]
    assert [(score.trial, score.seed) for score in seen] == [(1, 0), (1, 1), (3, 0), (3, 1)]
    labels = tiny_images.labels[tiny_images.test]
    for score in seen:
        assert np.array_equal(score.confusion.sum(axis=1), np.bincount(labels))
    network = result.trials[0].network
    assert network is not None
    predicted = network.predict_proba(tiny_images.images[tiny_images.test]).argmax(1)
    assert (predicted == labels).mean() == seen[0].accuracy
    assert network.config["n_channels_fc_0"] == 48
    assert result.trials[0].config["kernel_size"] == 3


def test_same_trials_same_evaluation_and_a_recipe_changes_only_what_the_space_leaves_open(
    tiny_images: Dataset,
) -> None:
    tested = [
        judged(tiny_images, trial(0, 0.5), n_seeds=1, recipe=recipe).trials[0]
        for recipe in ("study", "study", "tuned")
    ]
    losses = [one.network.train_losses for one in tested if one.network is not None]
    assert losses[0] == losses[1] != losses[2]
    config = tested[2].config
    assert config["schedule"] == "one_cycle" and "optimizer" not in config
    assert SPACES["course"].problem(config) is None


def test_cross_validation_leaves_the_test_images_alone(tiny_images: Dataset) -> None:
    blinded = tiny_images.images.copy()
    blinded[tiny_images.test] = 0
    results = [
        judged(data, trial(0, 0.5), n_seeds=1, protocol="cv3")
        for data in (tiny_images, replace(tiny_images, images=blinded))
    ]
    assert [score.fold for score in results[0].trials[0].scores] == [1, 2, 3]
    tested, again = (result.trials[0] for result in results)
    assert tested.network is None
    assert np.array_equal(tested.confusion, again.confusion)
    pool = np.concatenate([tiny_images.train, tiny_images.valid])
    n_members = np.bincount(tiny_images.labels[pool])
    assert np.array_equal(tested.confusion.sum(axis=1), n_members)
    for score in tested.scores:  # Folds share out every class.
        assert abs(score.confusion.sum(axis=1) - n_members / 3).max() < 1


def test_cross_validation_keeps_groups_together(tiny_images: Dataset) -> None:
    groups = np.arange(48) // 8  # Five in the pool; so no three folds are equal.
    data = replace(tiny_images, groups=groups)
    (tested,) = judged(data, trial(0, 0.5), n_seeds=1, protocol="cv3").trials
    sizes = sorted(int(score.confusion.sum()) for score in tested.scores)
    assert sizes == [8, 16, 16]


def test_a_class_without_test_images_has_no_recall(tiny_images: Dataset) -> None:
    data = replace(tiny_images, classes=("dark", "bright", "absent"))
    result = judged(data, trial(0, 0.5), n_seeds=1)
    recalls = result.recalls(result.trials[0])
    assert recalls["absent"] is None and None not in (recalls["dark"], recalls["bright"])


def test_training_that_fails_is_told(tiny_images: Dataset) -> None:
    diverging = trial(0, 0.5)
    diverging.params = {**diverging.params, "learning_rate_init": 1e30}
    result = judged(tiny_images, diverging, n_seeds=2)
    (tested,) = result.trials
    assert len(tested.failures) == 2
    assert "trial 0, seed 1: the training loss must stay finite" in tested.failures[1]
    assert tested.row()["mean"] is None and tested.row()["macro_f1"] is None
    assert tested.network is None and result.recalls(tested) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"top_k": 0}, "top_k >= 1"),
        ({"n_seeds": 0}, "n_seeds >= 1"),
        ({"protocol": "loo"}, "no protocol 'loo'"),
        ({"recipe": "secret"}, "no recipe 'secret'"),
    ],
)
def test_wrong_arguments(tiny_images: Dataset, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        judged(tiny_images, trial(0, 0.5), **options)
    with pytest.raises(NotFoundError, match="'judged' has no complete trial"):
        judged(tiny_images)


def test_figures_of_known_confusion_matrices() -> None:
    first = Score(4, 0, 0, np.array([[3, 1], [0, 4]]), 1.0)
    second = Score(4, 1, 0, np.array([[2, 2], [2, 2]]), 1.0)
    trial = TrialEvaluation(4, 0.8, {}, (first, second))
    assert first.accuracy == 7 / 8
    assert first.macro_f1 == pytest.approx((6 / 7 + 8 / 9) / 2)
    figures = trial.row()
    assert figures["mean"] == pytest.approx((7 / 8 + 1 / 2) / 2)
    assert figures["sd"] == pytest.approx(np.std([7 / 8, 1 / 2], ddof=1))
    whole = Evaluation("s", "demo", "holdout", "study", ("a", "b"), (trial,))
    assert whole.recalls(trial) == {"a": 5 / 8, "b": 6 / 8}
    empty = TrialEvaluation(4, float("nan"), {}, (), ("trial 4, seed 0: no",))
    assert empty.row() == dict.fromkeys(figures) | {"trial": 4, "seeds": []}
    assert empty.confusion.shape == (0, 0)


def test_command_prints_figures_without_nan() -> None:
    from optuna_deepweeds.cli.evaluate import _emit

    score = Score(4, 0, 0, np.array([[3, 1], [0, 4]]), 1.0)
    trials = (TrialEvaluation(4, 0.8, {"a": 1}, (score,)), TrialEvaluation(5, 0.7, {}, (), ("x",)))
    for fmt in ("table", "json", "csv"):
        _emit(Evaluation("s", "deepweeds-balanced", "holdout", "study", ("a", "b"), trials), fmt)

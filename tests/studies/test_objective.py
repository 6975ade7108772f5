"""The bridge from a trial to its training: what is reported, and what a failure leaves."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.errors import DivergedError
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies.objective import Objective, training_seed
from optuna_deepweeds.studies.spec import StudySpec

CONFIG = {
    "n_conv_layers": 3,
    "use_BN": False,
    "global_avg_pooling": False,
    "n_channels_conv_0": 32,
    "n_channels_conv_1": 32,
    "n_channels_conv_2": 32,
    "n_fc_layers": 1,
    "n_channels_fc_0": 32,
    "batch_size": 16,
    "learning_rate_init": 0.01,
    **SPACES["course"].constants,
}


@pytest.fixture
def trial() -> optuna.Trial:
    return optuna.create_study(direction="maximize").ask()


def test_every_epoch_is_reported_and_the_last_one_returned(
    trial: optuna.Trial, tiny_images: Dataset, tmp_path: Path
) -> None:
    shown: list[tuple[int, float]] = []
    objective = Objective(
        StudySpec(dataset="demo", epochs=3),
        tiny_images,
        device="cpu",
        on_epoch=lambda epoch, value: shown.append((epoch, value)),
    )
    value = objective(trial, CONFIG, seed=1, checkpoint=tmp_path / "t.pt")
    frozen = trial.study.get_trials()[0]
    assert list(frozen.intermediate_values.items()) == shown
    assert [epoch for epoch, _ in shown] == [1, 2, 3]
    assert value == shown[-1][1]
    assert (tmp_path / "t.pt").exists()


def test_a_diverged_run_says_so_and_leaves_no_checkpoint(
    trial: optuna.Trial, tiny_images: Dataset, tmp_path: Path
) -> None:
    objective = Objective(StudySpec(dataset="demo", epochs=3), tiny_images, device="cpu")
    explosive = CONFIG | {"learning_rate_init": 1e30}
    with pytest.raises(DivergedError, match="learning_rate_init"):
        objective(trial, explosive, seed=1, checkpoint=tmp_path / "t.pt")
    assert not (tmp_path / "t.pt").exists()


def test_seeds_differ_by_study_seed_and_trial() -> None:
    seeds = {training_seed(seed, root) for seed in range(5) for root in range(20)}
    assert len(seeds) == 100

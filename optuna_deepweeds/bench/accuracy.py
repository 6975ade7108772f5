"""Test accuracy of configurations picked by hand: the level that a search starts from.

No test figure was used to choose them. They stay within the published task: 32x32 images,
20 epochs, no pretraining.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna_deepweeds.bench.training_runs import course_config
from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.schema import choose
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.tasks import ImageTask
from optuna_deepweeds.tasks.evaluation import RECIPES, Score, TrialEvaluation, evaluate_config

CONFIGS: dict[str, dict[str, Any]] = {
    # Network, Adam and cross entropy of the published space; schedule, mirror images and shifts
    # are ours.
    "course": {
        **course_config((48, 96, 192), (128,), batch_size=64, rate=0.003),
        **RECIPES["tuned"],
    },
    "modern": {
        "block": "residual",
        "n_stages": 3,
        "n_blocks": 1,
        "width": 32,
        "width_factor": 2.0,
        "dropout_rate": 0.0,
        "batch_size": 64,
        "optimizer": "muon",
        "momentum": 0.95,
        "learning_rate_init": 0.005,
        "weight_decay": 0.2,
        "schedule": "one_cycle",
        "warmup_share": 0.2,
        "label_smoothing": 0.1,
        "flips": True,
        "rotate90": True,
        "shift": 3,
        "color_jitter": 0.1,
        "cutout": 8,
        "use_mixup": False,
        "use_ema": False,
        "views": 8,
    },
}
CONFIGS["modern-small"] = {**CONFIGS["modern"], "width": 16}
CONFIGS["modern-wide"] = {**CONFIGS["modern"], "width": 96, "weight_decay": 0.1}
"""Name -> configuration; `modern-wide` is the one for a GPU, `modern-small` for many images."""


def measure(
    name: str,
    dataset: Dataset,
    seeds: range,
    *,
    epochs: int = 20,
    device: str | None = None,
    on_score: Callable[[Score], None] | None = None,
) -> TrialEvaluation:
    """Train the configuration `name` once a seed on all but the test images and score it on these.

    Raises:
        InvalidInputError: If there is no such configuration.
    """
    choose("configuration", name, CONFIGS)
    task = ImageTask(dataset, SPACES[name.split("-")[0]], epochs)
    return evaluate_config(
        task, CONFIGS[name], seed=0, repetitions=seeds, device=device, on_score=on_score
    )

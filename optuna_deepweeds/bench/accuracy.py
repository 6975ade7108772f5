"""Test accuracy of configurations picked by hand: the level that a search starts from.

No test figure was used to choose them. They stay within the published task: 32x32 images,
20 epochs, no pretraining.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.tasks.evaluation import RECIPES, Score, TrialEvaluation, evaluate_config

if TYPE_CHECKING:
    from optuna_deepweeds.training import TrainedNetwork

CONFIGS: dict[str, dict[str, Any]] = {
    # Network, Adam and cross entropy of the published space; schedule, mirror images and shifts
    # are ours.
    "course": {
        "n_conv_layers": 3,
        "use_BN": True,
        "global_avg_pooling": True,
        "n_channels_conv_0": 48,
        "n_channels_conv_1": 96,
        "n_channels_conv_2": 192,
        "n_fc_layers": 1,
        "n_channels_fc_0": 128,
        "batch_size": 64,
        "learning_rate_init": 0.003,
        "kernel_size": 3,
        "dropout_rate": 0.2,
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
    *,
    first_seed: int = 0,
    n_seeds: int = 3,
    epochs: int = 20,
    device: str | None = None,
    deterministic: bool = False,
    on_score: Callable[[Score], None] | None = None,
) -> tuple[TrialEvaluation, TrainedNetwork | None]:
    """Train the configuration `name` on all but the test images and score it on these.

    Raises:
        InvalidInputError: If there is no such configuration or a number is out of range.
    """
    if name not in CONFIGS:
        raise InvalidInputError(f"no configuration {name!r}; there are {', '.join(CONFIGS)}.")
    for what, number, least in (("first_seed", first_seed, 0), ("n_seeds", n_seeds, 1)):
        if number < least:
            raise InvalidInputError(f"`{what} >= {least}` must hold, but got {what}={number}.")
    scores, failures, network = evaluate_config(
        CONFIGS[name],
        dataset,
        seed=0,
        first_seed=first_seed,
        n_seeds=n_seeds,
        epochs=epochs,
        device=device,
        deterministic=deterministic,
        on_score=on_score,
    )
    return TrialEvaluation(0, float("nan"), CONFIGS[name], scores, failures), network

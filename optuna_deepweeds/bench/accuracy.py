"""Test accuracy of configurations picked by hand: the level that a search starts from.

No test figure was used to choose them. They stay within the published task: 32x32 images,
20 epochs, no pretraining.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optuna_deepweeds.bench.training_runs import course_config
from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.errors import InvalidInputError
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
        "stem_stride": 1,
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
        "views": 8,
    },
}
CONFIGS["modern-small"] = {
    **CONFIGS["modern"],
    "stem_stride": 2,
    "activation": "gelu",
    "width": 24,
    "width_factor": 1.5,
    "n_blocks": 0,
    "batch_size": 128,
    "views": 1,
}
CONFIGS["modern-wide"] = {**CONFIGS["modern"], "width": 96, "weight_decay": 0.1}
"""Name -> configuration; `modern-wide` is the one for a GPU, `modern-small` for a processor."""


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


def compare(
    name: str,
    changes: Sequence[str],
    dataset: Dataset,
    seeds: range,
    *,
    epochs: int = 20,
    device: str | None = None,
    on_value: Callable[[str, int, float], None] | None = None,
) -> list[dict[str, Any]]:
    """What `changes` to the configuration `name`, such as "shift=2,views=4", gain on validation
    images, paired by seed; the test images are not read.

    Returns:
        A row for the configuration as it is, then one a change: mean accuracy, mean gain and its
        standard error (None of one seed), seconds a training.

    Raises:
        InvalidInputError: If there is no such configuration, or a change makes none.
    """
    from optuna_deepweeds.training import train

    choose("configuration", name, CONFIGS)
    configs = {text: CONFIGS[name] | _parsed(text) for text in ("", *changes)}
    found = np.zeros((len(configs), len(seeds)))
    seconds = np.zeros(len(configs))
    for column, seed in enumerate(seeds):
        for row, (text, config) in enumerate(configs.items()):
            network = train(config, dataset, seed=seed, epochs=epochs, device=device)
            found[row, column] = network.valid_accuracy
            seconds[row] += network.train_seconds / len(seeds)
            if on_value is not None:
                on_value(text or "as it is", seed, network.valid_accuracy)
    n = len(seeds)
    return [
        {
            "change": text or "as it is",
            "mean": float(values.mean()),
            "gain": float(gains.mean()),
            "error": float(gains.std(ddof=1) / n**0.5) if n > 1 else None,
            "seconds": float(time),
        }
        for text, values, gains, time in zip(
            configs, found, found - found[0], seconds, strict=True
        )
    ]


def _parsed(text: str) -> dict[str, Any]:
    parsed = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidInputError(f"a change must be KEY=VALUE, but is {part!r}.")
        try:
            parsed[key] = json.loads(value)
        except ValueError:
            parsed[key] = value  # a name
    return parsed

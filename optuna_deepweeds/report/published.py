"""Published results on `deepweeds-balanced`, to stand beside ours.

Same classes and sizes of the splits; the images of each split are others than ours. `course`
space, at most 20 epochs a network, two hours on one A100 GPU a study.

Source: Speckmann, Gieseke & Thieme (2023), poster and repository of the final project of the
AutoML lecture, Freiburg and Hannover.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

PUBLISHED_DATASET = "deepweeds-balanced"
PUBLISHED_SOURCE = "Speckmann, Gieseke & Thieme 2023"
N_TEST_IMAGES = 1200
"""Of the published split, and of ours."""


@dataclass(frozen=True)
class Published:
    """The best network of each study on the test images, one study a seed.

    Attributes:
        sampler: Name of the sampler, with what informed it.
        pruner: Name of the pruner.
        test_accuracies: One a seed: 1256870834, 255462424, 1143060359.
        n_trials: Trials of each study.
    """

    sampler: str
    pruner: str
    test_accuracies: tuple[float, float, float]
    n_trials: tuple[int, int, int]

    @property
    def mean(self) -> float:
        """Mean test accuracy over the seeds."""
        return sum(self.test_accuracies) / len(self.test_accuracies)

    @property
    def label(self) -> str:
        """Sampler and pruner as methods are labelled in comparisons."""
        return f"{self.sampler} + {self.pruner}"


PUBLISHED = (
    Published("random", "none", (0.67333, 0.60167, 0.58667), (129, 100, 116)),
    Published("random", "dora", (0.70500, 0.60167, 0.59667), (147, 111, 148)),
    Published("random", "asha", (0.67333, 0.67083, 0.68833), (895, 763, 737)),
    Published("rf_ei with priors", "none", (0.75250, 0.72417, 0.74000), (219, 275, 297)),
    Published("rf_ei with priors", "dora", (0.75250, 0.72417, 0.74000), (308, 361, 357)),
    Published("rf_ei with priors", "asha", (0.75250, 0.71083, 0.73083), (1167, 1160, 1036)),
)


def published_rows(dataset: object) -> list[dict[str, Any]]:
    """Sampler, pruner, mean and seeds of each method; empty for any data set but theirs."""
    if dataset != PUBLISHED_DATASET:
        return []
    return [
        {"sampler": p.sampler, "pruner": p.pruner, "mean": p.mean, "seeds": [*p.test_accuracies]}
        for p in PUBLISHED
    ]


def split_sentence() -> str:
    """Which differences between ours and the published values are due to the split."""
    accuracy = 0.7
    # Of two independent test sets; networks scored on one set share its luck, so means over
    # studies are hardly surer than one of them.
    error = 2 * math.sqrt(2 * accuracy * (1 - accuracy) / N_TEST_IMAGES)
    return (
        f"Published values ({PUBLISHED_SOURCE}): the same eight weeds and sizes of the splits "
        f"({N_TEST_IMAGES:,} test images), but other images in each split; space course, at most "
        "20 epochs a network, two hours on an A100 GPU a study. Other test images alone make "
        f"differences of up to about {100 * error:.0f} points (two standard errors of the "
        "difference at 70 %); what is beyond has another reason, the budget first of all."
    )

"""Published results on `deepweeds-balanced`, to stand beside ours.

Same images, classes and sizes of the splits; the images of each split are others than ours.
At most 20 epochs a network, `course` space, 2 to 6 hours on one A100 GPU a study.

Source: Speckmann, Gieseke & Thieme (2023), poster and repository of the final project of the
AutoML lecture, Freiburg and Hannover.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Test accuracies of the best network of each study, one study a seed."""

    sampler: str
    pruner: str
    test_accuracies: tuple[float, float, float]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return sum(self.test_accuracies) / len(self.test_accuracies)


PUBLISHED_DATASET = "deepweeds-balanced"
PUBLISHED = (
    Published("random", "none", (0.67333, 0.60167, 0.58667)),
    Published("random", "dora", (0.70500, 0.60167, 0.59667)),
    Published("random", "asha", (0.67333, 0.67083, 0.68833)),
    Published("rf_ei with priors", "none", (0.75250, 0.72417, 0.74000)),
    Published("rf_ei with priors", "dora", (0.75250, 0.72417, 0.74000)),
    Published("rf_ei with priors", "asha", (0.75250, 0.71083, 0.73083)),
)

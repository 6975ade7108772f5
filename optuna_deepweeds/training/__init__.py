"""Training one network: configuration and images in, learning curve and network out.

Knows nothing of Optuna: a study calls `train` and watches its epochs.
"""

from __future__ import annotations

from optuna_deepweeds.training.loop import EpochReport, train
from optuna_deepweeds.training.trained import TrainedNetwork

__all__ = ["EpochReport", "TrainedNetwork", "train"]

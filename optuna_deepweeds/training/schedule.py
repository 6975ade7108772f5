"""Learning rates of every step of a run, as one table.

A table instead of a scheduler object: the step reads its learning rate from the device, and a
resumed run needs no more than its step number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def learning_rates(
    schedule: str, peak: float, total_steps: int, warmup_share: float
) -> NDArray[np.float32]:
    """The learning rate of each step, shape (total_steps,).

    `constant` stays at `peak`. `one_cycle` and `cosine` rise linearly over the first
    `warmup_share` of the steps and then fall to zero, the first along a line, the second along
    half a cosine wave.

    Source: the linear one-cycle of Smith & Topin (2019), "Super-convergence"; the cosine of
    Loshchilov & Hutter (2017), "SGDR", section 3, one period.
    """
    # Middle of each step: the first is not wasted at zero, nor the last.
    share = (np.arange(total_steps) + 0.5) / total_steps
    if schedule == "constant":
        factor = np.ones(total_steps)
    else:
        rise = share / max(warmup_share, 1e-12)
        left = np.clip((1.0 - share) / (1.0 - warmup_share), 0.0, 1.0)
        fall = left if schedule == "one_cycle" else 0.5 * (1.0 - np.cos(np.pi * left))
        factor = np.minimum(rise, 1.0) * np.where(share < warmup_share, 1.0, fall)
    return (peak * factor).astype(np.float32)


def averaging_weights(decay: float, total_steps: int) -> NDArray[np.float32]:
    """The weight of the newest parameters in their moving average, shape (total_steps,).

    The decay rises from a short memory to `decay`, so that the average of the first epochs is
    not dominated by the initial weights.
    """
    step = np.arange(1, total_steps + 1)
    return (1.0 - np.minimum(decay, (1 + step) / (10 + step))).astype(np.float32)
